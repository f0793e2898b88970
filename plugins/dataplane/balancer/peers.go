package balancer

import (
	"context"
	"sync"
	"time"

	"github.com/ratchetos/ratchet/plugins/dataplane/balancer/announce/election"
	"github.com/ratchetos/ratchet/plugins/dataplane/balancer/flowsync"
	"github.com/ratchetos/ratchet/plugins/dataplane/balancer/table"
	"github.com/ratchetos/ratchet/plugins/dataplane/control"
)

// What peers tell each other over the control channel, beside hosts' kinds.
const (
	kindPeer  uint8 = 16 // election.Word
	kindFlows uint8 = 17 // flowsync batch

	methodKey  = "balancer.key"
	methodPage = "balancer.page"
)

const (
	// windowSize is how many batches to a peer may wait for their acknowledgement.
	windowSize = 64
	// resend is the pause before a batch is sent again.
	resend = 200 * time.Millisecond
	// identityRetry is the pause until a missing identity is looked for again.
	identityRetry = 5 * time.Second
	// fullPass is the time between two exchanges of all entries: a stand-by learns from them which flows live.
	fullPass = time.Minute
	// passTimeout bounds one call of a pass.
	passTimeout = 10 * time.Second
	passRetry   = time.Second
)

// peering is what is shared with peers.
type peering struct {
	cancel context.CancelFunc // of the table's events; nil while there are no peers
	done   sync.WaitGroup
	events sync.Mutex // over subscribers
	all    map[string]*peer
}

// peer is another balancer. What mu guards is shared by its goroutines and the control channel's readers.
type peer struct {
	Peer
	run    *run
	client *control.Client
	cancel context.CancelFunc
	done   sync.WaitGroup
	kick   chan struct{}

	mu      sync.Mutex
	window  *flowsync.Window
	stream  uint64        // number of ours towards it; it changes when the peer must take all flows anew
	seen    uint64        // its number, as last heard
	calls   string        // what it calls itself in the election
	theirs  uint64        // its number when the last full pass began
	tried   time.Duration // when a full pass was last begun
	passed  time.Duration // when the last one that succeeded was; 0 never
	heard   time.Duration // 0 never
	lag     meter
	problem string
	sent    uint64 // records acknowledged
	taken   uint64 // records and entries that came from it and are in the table
}

// configurePeers brings a configuration into force; the worker calls it.
func (r *run) configurePeers(d Desired) {
	p := &r.peers
	var stopped []*peer
	p.events.Lock()
	wanted := map[string]Peer{}
	for _, c := range d.Peers {
		wanted[c.Name] = c
	}
	for name, known := range p.all {
		if wanted[name] != known.Peer {
			stopped = append(stopped, known)
			delete(p.all, name)
		}
	}
	for name, c := range wanted {
		if p.all[name] == nil {
			if p.all == nil {
				p.all = map[string]*peer{}
			}
			p.all[name] = r.startPeer(c)
		}
	}
	n := len(p.all)
	p.events.Unlock()
	for _, known := range stopped {
		known.stop() // outside the lock, which its goroutines take
	}
	switch {
	case n > 0 && p.cancel == nil:
		ctx, cancel := context.WithCancel(context.Background())
		p.cancel = cancel
		p.done.Go(func() {
			if err := r.table.Events(ctx, r.tell); err != nil && ctx.Err() == nil {
				r.o.Log.Error("flows are not shared with peers", "err", err)
			}
		})
	case n == 0 && p.cancel != nil:
		p.cancel()
		p.done.Wait()
		p.cancel = nil
	}
}

func (r *run) stopPeers() {
	r.configurePeers(Desired{})
}

// startPeer begins to speak to a peer. Without its identity it only listens.
func (r *run) startPeer(c Peer) *peer {
	p := &peer{Peer: c, run: r, kick: make(chan struct{}, 1), window: flowsync.NewWindow(windowSize), stream: uint64(r.part.began.UnixNano())}
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	p.done.Go(func() { p.join(ctx) })
	return p
}

func (p *peer) stop() {
	p.cancel()
	p.done.Wait()
}

// join waits for the identity, then speaks until ctx ends.
func (p *peer) join(ctx context.Context) {
	for {
		client, err := p.run.part.peerClient(ctx, p.Peer)
		if err == nil {
			p.client = client
			break
		}
		p.complain(err.Error())
		select {
		case <-ctx.Done():
			return
		case <-p.kick:
		case <-time.After(identityRetry):
		}
	}
	p.complain("")
	p.done.Go(func() {
		if err := p.client.Run(ctx); err != nil && ctx.Err() == nil {
			p.complain(err.Error())
		}
	})
	p.done.Go(func() { p.send(ctx) })
	p.speak(ctx)
}

func (p *peer) complain(problem string) {
	p.mu.Lock()
	changed := p.problem != problem
	p.problem = problem
	p.mu.Unlock()
	if changed {
		p.run.o.Changed()
	}
}

// speak sends a beat at a time and starts full passes as they are due.
func (p *peer) speak(ctx context.Context) {
	r := p.run
	for passing := make(chan struct{}, 1); ctx.Err() == nil; {
		r.announcing.mu.Lock()
		every := r.announcing.config.Beat
		r.announcing.mu.Unlock()
		every = max(every, 10*time.Millisecond)
		began := time.Now()
		asking, cancel := context.WithTimeout(ctx, every*election.Misses)
		answer, err := p.client.Exchange(asking, kindPeer, p.word().Append(nil))
		cancel()
		if err == nil {
			if w, err := election.ParseWord(answer); err == nil {
				p.heardWord(w)
			}
		}
		if p.passDue(r.part.now()) {
			select {
			case passing <- struct{}{}:
				p.done.Go(func() {
					defer func() { <-passing }()
					if err := p.pass(ctx); err != nil && ctx.Err() == nil {
						p.complain(err.Error())
					}
				})
			default:
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(max(every-time.Since(began), time.Millisecond)):
		}
	}
}

// word is what this balancer says of itself to a peer.
func (p *peer) word() election.Word {
	r := p.run
	w := election.Word{Beat: election.Beat{Name: r.name()}, Key: keyPrint(r.table.Key())}
	r.announcing.mu.Lock()
	if n := r.announcing.node; n != nil {
		n.SetReady(r.inStep(r.part.now())) // as it is now: what is a beat old can cost this one the election
		w.Beat = n.Self()
	}
	r.announcing.mu.Unlock()
	p.mu.Lock()
	w.Stream = p.stream
	p.mu.Unlock()
	return w
}

// heardWord takes a peer's beat.
func (p *peer) heardWord(w election.Word) {
	now := p.run.part.now()
	p.mu.Lock()
	p.heard, p.seen, p.calls = now, w.Stream, w.Name
	p.mu.Unlock()
	a := &p.run.announcing
	a.mu.Lock()
	if a.node != nil {
		a.node.Heard(now, w.Beat)
	}
	a.mu.Unlock()
}

// peerSpoke takes a beat that came to this box's control channel and answers with ours.
func (p *Part) peerSpoke(host string, _ uint64, payload []byte) []byte {
	other := p.peer(host)
	if other == nil {
		return nil // enrolled, but no balancer of ours
	}
	w, err := election.ParseWord(payload)
	if err != nil {
		return nil
	}
	other.heardWord(w)
	return other.word().Append(nil)
}

// peer finds a configured peer by the name it was enrolled by.
func (p *Part) peer(name string) *peer {
	r := p.running()
	if r == nil {
		return nil
	}
	r.peers.events.Lock()
	defer r.peers.events.Unlock()
	return r.peers.all[name]
}

// inStep says whether this balancer's table holds what its living peers' tables do.
func (r *run) inStep(now time.Duration) bool {
	r.peers.events.Lock()
	defer r.peers.events.Unlock()
	for _, p := range r.peers.all {
		p.mu.Lock()
		alive := p.heard != 0 && now-p.heard <= time.Second
		ok := !alive || p.passed != 0
		p.mu.Unlock()
		if !ok {
			return false
		}
	}
	return true
}

// tell gives flows to every peer; the table's reader calls it.
func (r *run) tell(events []table.FlowEvent) {
	records := make([]flowsync.Record, 0, len(events))
	r.mu.Lock()
	names := r.names()
	r.mu.Unlock()
	for _, e := range events {
		if name, ok := names[e.Backend]; ok {
			records = append(records, flowsync.Record{
				Ended: e.Kind == table.FlowClosing, Protocol: e.Protocol, Client: e.Client, Local: e.Local, Backend: name,
			})
		}
	}
	r.peers.events.Lock()
	defer r.peers.events.Unlock()
	for _, p := range r.peers.all {
		p.mu.Lock()
		p.window.Add(records)
		p.mu.Unlock()
		select {
		case p.kick <- struct{}{}:
		default:
		}
	}
}

// send keeps the window moving.
func (p *peer) send(ctx context.Context) {
	var flying sync.WaitGroup
	defer flying.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.kick:
		case <-timer.C:
		}
		p.mu.Lock()
		out, wait := p.window.Step(p.run.part.now(), resend)
		if !p.window.InStep() {
			// The peer did not keep up, or did not answer: it takes a full pass when it sees the new number.
			p.window.Restart()
			p.stream++
		}
		p.mu.Unlock()
		for _, s := range out {
			flying.Go(func() { p.deliver(ctx, s) })
		}
		if wait > 0 {
			timer.Reset(wait)
		}
	}
}

func (p *peer) deliver(ctx context.Context, s flowsync.Send) {
	began := time.Now()
	asking, cancel := context.WithTimeout(ctx, resend)
	defer cancel()
	if _, err := p.client.Exchange(asking, kindFlows, flowsync.AppendBatch(nil, s.Records)); err != nil {
		return // the window sends it again
	}
	p.mu.Lock()
	p.window.Acknowledged(s.ID)
	p.sent += uint64(len(s.Records))
	p.lag.note(time.Since(began))
	p.mu.Unlock()
	select {
	case p.kick <- struct{}{}:
	default:
	}
}

// peerFlows files a peer's flows. The reply is the acknowledgement.
func (p *Part) peerFlows(host string, _ uint64, payload []byte) []byte {
	other, r := p.peer(host), p.running()
	if other == nil || r == nil {
		return nil
	}
	records, err := flowsync.ParseBatch(payload)
	if err != nil {
		return nil
	}
	n, err := r.insert(records)
	if err != nil {
		r.o.Log.Debug("flows of a peer were not filed", "peer", host, "err", err)
	}
	other.mu.Lock()
	other.taken += uint64(n)
	other.mu.Unlock()
	return []byte{flowsync.Version}
}
