package group

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/ratchetos/ratchet/plugins/dataplane/bpf"
	"github.com/ratchetos/ratchet/plugins/dataplane/control"
)

// AgentConfig is the section groups of a host's agent: this host has clients of groups.
type AgentConfig struct {
	Only     []string `json:"only,omitempty" jsonschema:"description=names of the groups whose addresses this host spreads; all when empty"`
	Capacity int      `json:"capacity,omitempty" config:"min=0,max=1024" jsonschema:"description=groups that the program has room for (default 64, 50 KiB each)"`
	Flows    int      `json:"flows,omitempty" config:"min=0,max=16777216" jsonschema:"description=flows that are remembered (default 65536, 8 bytes each)"`
	MTU      uint32   `json:"mtu,omitempty" config:"min=0,max=9216" jsonschema:"description=of packets to groups; the links' less 70 for the outer headers (default 1430)"`
}

// AgentOptions is what an Agent is made with.
type AgentOptions struct {
	Log     *slog.Logger
	Clients []*control.Client // one a box
	Pins    string            // directory of this agent alone on a bpffs; "": nothing outlives the process
	Config  AgentConfig
}

// Agent keeps a host's program at what the control plane says, and lets it use that for as long as it is confirmed.
type Agent struct {
	o     AgentOptions
	batch chan answer

	mu       sync.Mutex
	follower *Follower
	applied  chan struct{} // closed and replaced when the program has another version
	lease    time.Duration // as the box last said
	outcomes Outcomes      // as of the last look
}

// answer is an update on its way from a puller to the loop.
type answer struct {
	asked  Request
	update Update
	taken  chan error // how it went
}

const (
	pullPatience = 20 * time.Second
	// Back-off of a box that does not answer or does not lead.
	firstPause, lastPause = 50 * time.Millisecond, 2 * time.Second
	// look is how often ways to the members' hosts are looked up anew.
	look = 2 * time.Second
)

// NewAgent makes the agent; it does nothing until Run.
func NewAgent(o AgentOptions) *Agent {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Agent{o: o, batch: make(chan answer), applied: make(chan struct{}), lease: DefaultLease}
}

// Run works until ctx ends. Program, routes and flows stay: what the last confirmation allows goes on. Everything that
// concerns the network namespace is done by the calling goroutine.
func (a *Agent) Run(ctx context.Context) error {
	w, err := openWriter(a.o)
	if err != nil {
		return fmt.Errorf("groups: %w", err)
	}
	defer w.close()
	a.mu.Lock()
	a.follower = NewFollower(w.datapath.Applied())
	a.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	var working sync.WaitGroup
	defer working.Wait()
	defer cancel()
	confirmed := make(chan uint64)
	for _, c := range a.o.Clients {
		working.Go(func() { a.pull(ctx, c) })
		working.Go(func() { a.confirm(ctx, c, confirmed) })
	}
	again := time.NewTicker(look)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case b := <-a.batch:
			b.taken <- a.step(w, b)
			// Now, so that the next change does not have to.
			if err := w.datapath.Settle(); err != nil {
				return err
			}
		case until := <-confirmed:
			w.datapath.Confirm(until)
		case <-again.C:
			w.lookAgain()
			if o, err := w.datapath.Outcomes(); err == nil { // else the next look has them
				a.mu.Lock()
				a.outcomes = o
				a.mu.Unlock()
			}
		}
	}
}

// step takes an update into the follower and the program.
func (a *Agent) step(w *writer, b answer) error {
	a.mu.Lock()
	changed, removed, err := a.follower.Step(b.asked, b.update)
	groups, version := a.follower.Groups(), a.follower.Version()
	a.mu.Unlock()
	if err != nil {
		return err
	}
	for _, id := range removed {
		w.remove(id)
	}
	way := ways()
	for _, g := range changed {
		w.set(g, way)
	}
	if version != b.update.Version {
		return nil // more is to come
	}
	w.keepOnly(groups)
	w.datapath.Done(version)
	a.mu.Lock()
	a.follower.Done()
	close(a.applied)
	a.applied = make(chan struct{})
	a.mu.Unlock()
	a.o.Log.Info("groups applied", "version", version, "groups", len(groups), "changed", len(changed))
	return nil
}

// pull asks one box for news, again and again.
func (a *Agent) pull(ctx context.Context, c *control.Client) {
	pause, quiet := firstPause, false
	for ctx.Err() == nil {
		err := a.pullOnce(ctx, c)
		if err == nil {
			pause, quiet = firstPause, false
			continue
		}
		if !quiet && ctx.Err() == nil {
			a.o.Log.Warn("groups cannot be pulled", "box", c.Box(), "error", err)
			quiet = true // until it works again
		}
		rest(ctx, pause)
		pause = min(2*pause, lastPause)
	}
}

func (a *Agent) pullOnce(ctx context.Context, c *control.Client) error {
	a.mu.Lock()
	asked := a.follower.Request()
	a.mu.Unlock()
	asked.WaitMillis = uint32(pullPatience / time.Millisecond)
	ctx, cancel := context.WithTimeout(ctx, pullPatience+5*time.Second)
	defer cancel()
	var reply []byte
	if err := c.Call(ctx, methodPull, asked.Append(nil), &reply); err != nil {
		return err
	}
	update, err := ParseUpdate(reply)
	if err != nil {
		return err
	}
	if update.Version == (Version{}) {
		return nil // a box that does not lead
	}
	asked.WaitMillis = 0
	b := answer{asked: asked, update: update, taken: make(chan error, 1)}
	select {
	case a.batch <- b:
		return <-b.taken
	case <-ctx.Done():
		return ctx.Err()
	}
}

// confirm tells one box what is applied and asks whether that is current: a third of the lease after the last answer,
// and at once when something new is applied.
func (a *Agent) confirm(ctx context.Context, c *control.Client, confirmed chan<- uint64) {
	for ctx.Err() == nil {
		a.mu.Lock()
		have, applied, lease := Ack{a.follower.Applied(), a.outcomes}, a.applied, a.lease
		a.mu.Unlock()
		sent := bpf.BootNow() // the lease counts from the asking (invariant D5)
		word, err := a.exchange(ctx, c, have, lease/6)
		pause := lease / 3
		switch {
		case err != nil:
			pause = min(lease/12, lastPause)
		case word.Current == have.Applied && have.Applied.Epoch != 0:
			a.mu.Lock()
			a.lease = max(word.Lease, 100*time.Millisecond)
			a.mu.Unlock()
			select {
			case confirmed <- sent + uint64(word.Lease):
			case <-ctx.Done():
				return
			}
		}
		wait := time.NewTimer(jitter(pause))
		select {
		case <-ctx.Done():
		case <-applied:
		case <-wait.C:
		}
		wait.Stop()
	}
}

func (a *Agent) exchange(ctx context.Context, c *control.Client, have Ack, patience time.Duration) (Word, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	reply, err := c.Exchange(ctx, control.KindGroupAck, have.Append(nil))
	if err != nil {
		return Word{}, err
	}
	return ParseWord(reply)
}

// jitter keeps hosts that were started together from asking together.
func jitter(d time.Duration) time.Duration {
	return d - time.Duration(rand.Int64N(int64(d)/4+1))
}

func rest(ctx context.Context, d time.Duration) {
	t := time.NewTimer(jitter(d))
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
