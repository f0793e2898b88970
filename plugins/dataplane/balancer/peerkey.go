package balancer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ratchetos/ratchet/plugins/dataplane/balancer/table"
	"github.com/ratchetos/ratchet/plugins/dataplane/control"
)

// keyWait is how long a balancer that begins without flows waits for a peer's key before it takes traffic.
const keyWait = 2 * time.Second

// offer is what a balancer that is just starting answers a peer that asks for its key.
type offer struct {
	key   table.Key
	life  uint64
	peers []Peer
}

// keyReply answers methodKey. Serving says that the key is in use; of two that only start, the one with the lower life
// gives its key to the other.
type keyReply struct {
	Key     table.Key `json:"key"`
	Serving bool      `json:"serving"`
	Life    uint64    `json:"life"`
}

var errNoPeer = errors.New("this box does not have you among the peers of its balancer")

// peerKey gives a peer the key of the flow table.
func (p *Part) peerKey(_ context.Context, host string, _ []byte) ([]byte, error) {
	p.mu.Lock()
	r, o := p.run, p.offer
	p.mu.Unlock()
	switch {
	case r != nil && p.peer(host) != nil:
		return json.Marshal(keyReply{r.table.Key(), true, r.life})
	case o != nil && slices.ContainsFunc(o.peers, func(c Peer) bool { return c.Name == host }):
		return json.Marshal(keyReply{Key: o.key, Life: o.life})
	}
	return nil, errNoPeer
}

// findKey asks the peers for the key that flows are filed under with them. It returns nil when none has one to give.
func (p *Part) findKey(ctx context.Context, mine offer) *table.Key {
	ctx, cancel := context.WithTimeout(ctx, keyWait)
	defer cancel()
	p.setOffer(&mine)
	defer p.setOffer(nil)
	found := make(chan *table.Key, len(mine.peers))
	for _, c := range mine.peers {
		go func() { found <- p.askKey(ctx, c, mine.life) }()
	}
	var key *table.Key
	for range mine.peers {
		if k := <-found; k != nil && key == nil {
			key = k
			cancel()
		}
	}
	return key
}

func (p *Part) setOffer(o *offer) {
	p.mu.Lock()
	p.offer = o
	p.mu.Unlock()
}

// askKey asks one peer until it answers or ctx ends.
func (p *Part) askKey(ctx context.Context, c Peer, life uint64) *table.Key {
	client, err := p.peerClient(ctx, c)
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = client.Run(ctx) // ends with ctx; why it did not join does not matter here
	}()
	defer func() { cancel(); <-ended }()
	for ctx.Err() == nil {
		var reply keyReply
		if err := client.Call(ctx, methodKey, struct{}{}, &reply); err == nil {
			if reply.Serving || reply.Life < life {
				return &reply.Key
			}
			return nil // it takes ours
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
	return nil
}

// identityKey is where the file lies with which this box joins a peer.
func identityKey(name string) string { return "peer/" + name }

// peerClient makes the client for a peer, with the identity that an operator has given.
func (p *Part) peerClient(ctx context.Context, c Peer) (*control.Client, error) {
	pem, err := p.o.State.Get(ctx, identityKey(c.Name))
	if err != nil {
		return nil, fmt.Errorf("read identity for peer %s: %w", c.Name, err)
	}
	if len(pem) == 0 {
		return nil, fmt.Errorf("no identity for peer %s: enrol this box there (ratchetctl dataplane agent enroll NAME) and give the file here (ratchetctl dataplane peer %s FILE)", c.Name, c.Name)
	}
	identity, err := control.ParseIdentity(pem)
	if err != nil {
		return nil, fmt.Errorf("identity for peer %s: %w", c.Name, err)
	}
	return control.NewClient(control.ClientOptions{
		Address: c.Address, Identity: identity, Log: p.o.Log, Dial: p.o.Dial, ListenPacket: p.o.ListenPacket,
	}), nil
}
