package attempt

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/go-tpm/tpm2/transport"

	"github.com/ratchetos/ratchet/boot/counter"
	"github.com/ratchetos/ratchet/boot/facts"
	"github.com/ratchetos/ratchet/boot/ledger"
	"github.com/ratchetos/ratchet/boot/verdict"
)

var (
	// ErrNotInOrder says that counter, journal and ledger do not fit together; a reboot says why.
	ErrNotInOrder = errors.New("the counter is not in order, no attempt can be opened; reboot to see the verdict")
	// ErrTooMany says that as many attempts are open as a boot can check; a reboot closes them.
	ErrTooMany = fmt.Errorf("%d attempts are open; reboot to close them", ledger.MaxOpen)
)

// interval is the least time between two attempts.
const interval = time.Second

// Opener opens the TPM and LEDGER for one operation; both are closed after it, so that core's other
// users of the TPM get their turn.
type Opener struct {
	TPM    func() (transport.TPMCloser, error)
	Ledger func() (Medium, error)
}

// Medium is LEDGER, opened for writing.
type Medium interface {
	ledger.Medium
	Close() error
}

// Manager opens attempts.
type Manager struct {
	opener Opener
	mu     sync.Mutex
	last   time.Time
	// step, when set, is asked before each step that changes something; tests cut the power there.
	step func(name string) error
}

// New does no I/O.
func New(o Opener) *Manager { return &Manager{opener: o} }

// Status is where the counter stands.
type Status struct {
	Counter  uint64 `json:"counter"`
	Expected uint64 `json:"expected"`
	// Open lists the attempts that the next boot will close.
	Open []ledger.Intent `json:"open,omitempty"`
	// Config is the digest of the configuration in force at the next boot, zero for the image's own.
	Config ledger.Digest `json:"config"`
	// Order is empty when everything fits together, else the verdict the next boot would give.
	Order string `json:"order,omitempty"`
}

// Attempt is one that counts: the caller acts now.
type Attempt struct {
	Number uint64
	Open   int // attempts open after this one
}

// session is one operation's view of TPM and LEDGER.
type session struct {
	tpm    transport.TPMCloser
	medium Medium
	chip   *counter.Chip
	store  *ledger.Store
	facts  verdict.Facts
	j      verdict.Judgement
}

func (s *session) close() error {
	return errors.Join(s.chip.Close(), s.tpm.Close(), s.medium.Close())
}

// begin reads everything and lets the engine judge it.
func (m *Manager) begin() (*session, error) {
	medium, err := m.opener.Ledger()
	if err != nil {
		return nil, fmt.Errorf("open LEDGER: %w", err)
	}
	tpm, err := m.opener.TPM()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open TPM: %w", err), medium.Close())
	}
	s := &session{tpm: tpm, medium: medium, chip: counter.Open(tpm), store: ledger.Open(medium)}
	s.judge()
	return s, nil
}

// judge asks the boot's engine. E's policy names PCR 11 before the cap, which cannot be measured any
// more; the ledger knows it, and a wrong one fails in the TPM.
func (s *session) judge() {
	s.facts = verdict.Facts{Ledger: facts.Ledger(s.store)}
	var policy ledger.Digest
	var seq uint64
	if c := s.facts.Ledger.Contents; c != nil {
		for _, slot := range c.Slots {
			if slot.Err == nil && slot.Ledger.Sequence > seq {
				seq, policy = slot.Ledger.Sequence, slot.Ledger.Box.Policy
			}
		}
	}
	s.facts.TPM = facts.TPM(s.chip, policy, true)
	s.j = verdict.Judge(s.facts)
}

func (s *session) inOrder() error {
	if !s.j.Released() || s.j.Action != verdict.None {
		return fmt.Errorf("%w: %s", ErrNotInOrder, s.j.Reason)
	}
	return nil
}

// Status reads where the counter stands.
func (m *Manager) Status(ctx context.Context) (Status, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return Status{}, err
	}
	s, err := m.begin()
	if err != nil {
		return Status{}, err
	}
	st := Status{Counter: s.facts.TPM.Counter, Expected: s.facts.TPM.Expected, Open: s.j.Open, Config: s.j.Config.Now}
	if err := s.inOrder(); err != nil {
		st.Order = s.j.Reason
	}
	return st, s.close()
}

// Open opens an attempt: when it returns without error the attempt counts and the caller acts. The
// intent's Number is set here. Errors: ErrNotInOrder, ErrTooMany, ctx's, or of TPM and medium.
func (m *Manager) Open(ctx context.Context, i ledger.Intent) (Attempt, error) {
	return m.with(ctx, func(s *session) (Attempt, error) { return m.open(s, i) })
}

// with runs use in a session, one at a time and at most one a second.
func (m *Manager) with(ctx context.Context, use func(*session) (Attempt, error)) (a Attempt, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.pace(ctx); err != nil {
		return a, err
	}
	s, err := m.begin()
	if err != nil {
		return a, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.inOrder(); err != nil {
		return a, err
	}
	return use(s)
}

// pace waits until a second has passed since the last attempt.
func (m *Manager) pace(ctx context.Context) error {
	if wait := time.Until(m.last.Add(interval)); !m.last.IsZero() && wait > 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		select {
		case <-ctx.Done():
		case <-t.C:
		}
	}
	return ctx.Err()
}

func (m *Manager) open(s *session, i ledger.Intent) (Attempt, error) {
	if s.j.Ahead { // an earlier Open ended between J and C: count its intent, which did nothing
		if err := m.at("count"); err != nil {
			return Attempt{}, err
		}
		if _, err := s.chip.Increment(); err != nil {
			return Attempt{}, fmt.Errorf("count the attempt that was cut off: %w", err)
		}
		s.judge()
		if err := s.inOrder(); err != nil {
			return Attempt{}, err
		}
	}
	if len(s.j.Open) >= ledger.MaxOpen {
		return Attempt{}, ErrTooMany
	}
	i.Number = s.facts.TPM.Counter + 1
	if err := m.at("intent"); err != nil {
		return Attempt{}, err
	}
	m.last = time.Now()
	d, err := s.store.WriteIntent(i)
	if err != nil {
		return Attempt{}, err
	}
	if err := m.at("extend"); err != nil {
		return Attempt{}, err
	}
	if err := s.chip.Extend(d); err != nil {
		return Attempt{}, err
	}
	if err := m.at("count"); err != nil {
		return Attempt{}, err
	}
	n, err := s.chip.Increment()
	if err != nil {
		return Attempt{}, err
	}
	if n != i.Number {
		return Attempt{}, fmt.Errorf("%w: the counter went to %d instead of %d", ErrNotInOrder, n, i.Number)
	}
	return Attempt{Number: n, Open: len(s.j.Open) + 1}, nil
}

func (m *Manager) at(step string) error {
	if m.step == nil {
		return nil
	}
	return m.step(step)
}
