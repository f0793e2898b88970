package attach

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
)

// Volume is what a handover needs of one.
type Volume interface {
	// Flush makes every write that has been acknowledged durable.
	Flush(ctx context.Context) error
	// SetWriter keeps the writer with its epoch on the disk; it is durable on return.
	SetWriter(ctx context.Context, epoch uint64, writer [16]byte) error
	// Writer returns what SetWriter kept, zeroes if nothing.
	Writer() (epoch uint64, writer [16]byte)
}

// Gate admits writes to one volume.
type Gate struct {
	volume Volume
	turn   chan struct{} // holds a token while no handover runs

	// rule is what Begin looks at; it is replaced whole, under mu.
	rule atomic.Pointer[rule]

	mu       sync.Mutex
	machine  *Machine
	sessions map[*Session]struct{}
	idle     chan struct{} // closed when a session may have become idle; nil while nobody waits
	waiting  atomic.Bool
	log      []Term
	current  Term // without what the sessions still count themselves

	skipDrain bool // the mutant of S15: tests set it to see themselves fail
}

// rule is an answer to Admits that holds until the machine moves.
type rule struct {
	open   bool
	writer Writer
	other  func(Writer) error // what the others are told
}

// Term is what was written under one epoch.
type Term struct {
	Epoch uint64
	// Writes counts those that were admitted and have ended, by identity. There is one identity at most in an epoch above
	// zero that is not Everyone's.
	Writes map[string]uint64
	// Refused counts those that were not.
	Refused map[string]uint64
}

// maxTerms bounds the log; the oldest go first.
const maxTerms = 64

// NewGate puts a gate in front of a volume, which says who was its writer.
func NewGate(v Volume) *Gate {
	epoch, writer := v.Writer()
	g := &Gate{
		volume: v, turn: make(chan struct{}, 1), machine: NewMachine(epoch, writer),
		sessions: make(map[*Session]struct{}), current: newTerm(epoch),
	}
	g.turn <- struct{}{}
	g.publish()
	return g
}

func newTerm(epoch uint64) Term {
	return Term{Epoch: epoch, Writes: make(map[string]uint64), Refused: make(map[string]uint64)}
}

// publish makes what the machine says now the rule. Called with mu, or before anyone else has the gate.
func (g *Gate) publish() {
	m := *g.machine
	m.former = maps.Clone(m.former)
	r := &rule{other: m.Admits}
	if !m.stopped() { // else nobody is let in: no identity hashes to zeroes
		r.open, r.writer = m.open(), m.writer
	}
	g.rule.Store(r)
}

// Session is one connection of an identity. It implements the admission of package nbd.
type Session struct {
	gate     *Gate
	identity string
	writer   Writer
	expel    func()

	// state holds in its low bits how many operations are in flight, and above them how many have ended in this term:
	// one addition for both.
	state   atomic.Int64
	refused atomic.Uint64
}

const (
	endedShift = 20 // more than a connection can have in flight
	ended      = 1 << endedShift
	inFlight   = ended - 1
)

// Enter adds a connection. An empty identity is a client without a name. expel closes the connection; it is called with
// the gate's lock and must not wait.
func (g *Gate) Enter(identity string, expel func()) *Session {
	s := &Session{gate: g, identity: identity, writer: WriterOf(identity), expel: expel}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sessions[s] = struct{}{}
	return s
}

// Begin admits one operation that changes data, or says why not. After nil End must follow.
func (s *Session) Begin() error {
	s.state.Add(1) // before the look at the rule: see the package's comment
	r := s.gate.rule.Load()
	if r.open || r.writer == s.writer {
		return nil
	}
	s.leave(-1)
	s.refused.Add(1)
	return r.other(s.writer)
}

// End tells that an admitted operation has ended.
func (s *Session) End() { s.leave(ended - 1) }

func (s *Session) leave(n int64) {
	if s.state.Add(n)&inFlight == 0 && s.gate.waiting.Load() {
		s.gate.wake()
	}
}

// Close takes the connection out.
func (s *Session) Close() {
	g := s.gate
	g.mu.Lock()
	delete(g.sessions, s)
	s.collect(&g.current)
	g.mu.Unlock()
	g.wake()
}

// collect moves what the session has counted into a term.
func (s *Session) collect(t *Term) {
	if n := s.state.Load() >> endedShift; n > 0 {
		s.state.Add(-n << endedShift)
		t.Writes[s.identity] += uint64(n)
	}
	if n := s.refused.Swap(0); n > 0 {
		t.Refused[s.identity] += n
	}
}

func (g *Gate) wake() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.idle != nil {
		close(g.idle)
		g.idle = nil
	}
}

// Handover gives the volume from one identity to another and returns the epoch under which TO writes. It may be
// repeated at any time. Only one runs at once; others wait for it.
func (g *Gate) Handover(ctx context.Context, from, to string) (epoch uint64, err error) {
	return g.run(ctx, func(m *Machine) (Step, error) { return m.Ask(from, to) })
}

// Open lets everyone with the right write, under an epoch of its own. Who writes now is not stopped. It may be repeated.
func (g *Gate) Open(ctx context.Context) error {
	_, err := g.run(ctx, (*Machine).Open)
	return err
}

// run carries out what the machine asks for, after whatever else is carried out.
func (g *Gate) run(ctx context.Context, ask func(*Machine) (Step, error)) (epoch uint64, err error) {
	select {
	case <-g.turn:
		defer func() { g.turn <- struct{}{} }()
	case <-ctx.Done():
		return 0, fmt.Errorf("wait for another handover: %w", ctx.Err())
	}
	step, err := g.step(ask)
	for err == nil && step != StepDone {
		switch step {
		case StepDrain:
			drained := g.drain(ctx)
			step, err = g.step(func(m *Machine) (Step, error) { return m.Drained(drained) })
		case StepFlush:
			flushed := g.volume.Flush(ctx)
			step, err = g.step(func(m *Machine) (Step, error) { return m.Flushed(flushed) })
		case StepPersist:
			next, writer := g.machine.Next() // ours alone while we have the turn
			kept := g.volume.SetWriter(ctx, next, writer)
			step, err = g.step(func(m *Machine) (Step, error) { return m.Persisted(kept) })
		}
	}
	if err != nil {
		return 0, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	epoch, _ = g.machine.Serving()
	return epoch, nil
}

// step moves the machine and publishes what it says afterwards. A new epoch begins a new term.
func (g *Gate) step(move func(*Machine) (Step, error)) (Step, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	step, err := move(g.machine)
	if epoch, _ := g.machine.Serving(); epoch != g.current.Epoch {
		for s := range g.sessions {
			s.collect(&g.current)
		}
		g.log = append(g.log, g.current)
		g.log = g.log[max(0, len(g.log)-maxTerms):]
		g.current = newTerm(epoch)
	}
	g.publish()
	return step, err
}

// drain waits until no write is in flight. Nothing new is admitted meanwhile.
func (g *Gate) drain(ctx context.Context) error {
	if g.skipDrain {
		return nil
	}
	g.waiting.Store(true)
	defer g.waiting.Store(false)
	for {
		g.mu.Lock()
		busy := false
		for s := range g.sessions {
			busy = busy || s.state.Load()&inFlight > 0
		}
		if !busy {
			g.mu.Unlock()
			return nil
		}
		// A write that ends after the look counts down first and then wants the lock to wake us: it finds the channel.
		if g.idle == nil {
			g.idle = make(chan struct{})
		}
		idle := g.idle
		g.mu.Unlock()
		select {
		case <-idle:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Expel closes the connections of an identity. When it returns their clients get no reply any more.
func (g *Gate) Expel(identity string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for s := range g.sessions {
		if s.identity == identity {
			s.expel()
		}
	}
}

// Connections returns how many each identity has.
func (g *Gate) Connections() map[string]int {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := make(map[string]int)
	for s := range g.sessions {
		n[s.identity]++
	}
	return n
}

// Serving returns the writer and its epoch; an epoch of zero, or the writer Everyone, means that all with the right write.
func (g *Gate) Serving() (epoch uint64, writer Writer) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.machine.Serving()
}

// Terms returns the log of writes by epoch, the current one last.
func (g *Gate) Terms() []Term {
	g.mu.Lock()
	defer g.mu.Unlock()
	for s := range g.sessions {
		s.collect(&g.current)
	}
	list := append(slices.Clone(g.log), g.current)
	for i, t := range list {
		list[i].Writes, list[i].Refused = maps.Clone(t.Writes), maps.Clone(t.Refused)
	}
	return list
}
