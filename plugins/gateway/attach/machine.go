package attach

import (
	"crypto/sha256"
	"errors"
	"fmt"
)

// Writer names an identity on the disk of a volume.
type Writer [16]byte

// WriterOf returns the name of an identity. It is a hash, so that identities of any length have one.
func WriterOf(identity string) Writer {
	sum := sha256.Sum256([]byte("ratchet writer " + identity))
	return Writer(sum[:16])
}

// Everyone is the writer of a volume that was handed over once and is open again. No identity hashes to it.
var Everyone Writer

// Errors of writes that are not admitted and of handovers that cannot be.
var (
	// ErrHandedOver is told to a client that was the writer: another has the volume now.
	ErrHandedOver = errors.New("the volume has been handed over to another writer")
	// ErrNotWriter is told to a client that may write but is not the one chosen.
	ErrNotWriter = errors.New("another client is the writer of the volume")
	// ErrNotFrom is returned when FROM does not have the volume.
	ErrNotFrom = errors.New("is not the writer")
	// ErrInDoubt is returned when the last handover may have happened or not.
	ErrInDoubt = errors.New("a handover was interrupted: repeat it, or hand the volume back")
)

// Step is what a handover wants done next.
type Step int

// Steps of a handover. Each is answered by the method in its comment.
const (
	StepDone    Step = iota // nothing more: TO has the volume
	StepDrain               // wait for the writes in flight: Drained
	StepFlush               // make everything durable: Flushed
	StepPersist             // keep Epoch and Next on the disk: Persisted
)

func (s Step) String() string { return [...]string{"done", "drain", "flush", "persist"}[s] }

// Machine is the writer of one volume and how it changes, without any waiting or I/O. The zero value is open.
type Machine struct {
	epoch  uint64
	writer Writer // with epoch above zero

	// Of a handover that is under way or in doubt.
	step     Step
	doubt    bool
	opening  bool // to everyone: who writes now is one of them, and writes on
	from, to Writer
	next     uint64
	// An epoch that may have been kept, and for whom: nobody else may have it.
	tried    uint64
	triedFor Writer

	former map[Writer]bool // those who had the volume since this process began
}

// NewMachine takes up what the disk of the volume says; an epoch of zero is a volume that was never handed over.
func NewMachine(epoch uint64, writer Writer) *Machine {
	return &Machine{epoch: epoch, writer: writer}
}

// Ask begins a handover, or ends at once if TO has the volume already.
func (m *Machine) Ask(from, to string) (Step, error) {
	f, t := WriterOf(from), WriterOf(to)
	switch {
	case from == to:
		return StepDone, fmt.Errorf("hand over from %s to itself: name two identities", from)
	case m.step != StepDone:
		return StepDone, errors.New("another handover is under way")
	case m.doubt && f == m.from && t == m.to, m.doubt && f == m.to && t == m.from:
		// The same once more, or turned round.
	case m.doubt:
		return StepDone, ErrInDoubt
	case m.open():
	case m.writer == t:
		return StepDone, nil
	case m.writer != f:
		return StepDone, fmt.Errorf("%s %w of the volume", from, ErrNotFrom)
	}
	m.from, m.to, m.step, m.next = f, t, StepDrain, m.epochFor(t)
	return m.step, nil
}

// Open begins to let everyone write, also when a handover is in doubt, or ends at once if everyone does.
func (m *Machine) Open() (Step, error) {
	switch {
	case m.step != StepDone:
		return StepDone, errors.New("a handover is under way")
	case m.open() && !m.doubt:
		return StepDone, nil
	}
	m.opening, m.step, m.next = true, StepPersist, m.epochFor(Everyone)
	return m.step, nil
}

// epochFor is the next one of a writer: what may have been kept for it already, so that if it was, it is again without
// harm; else later than whatever was kept.
func (m *Machine) epochFor(w Writer) uint64 {
	if m.tried > m.epoch && m.triedFor == w {
		return m.tried
	}
	return max(m.epoch, m.tried) + 1
}

func (m *Machine) open() bool { return m.epoch == 0 || m.writer == Everyone }

// Drained tells that no write is in flight, or why that was not waited for. After an error FROM goes on as before.
func (m *Machine) Drained(err error) (Step, error) {
	if err != nil {
		m.step = StepDone
		return m.step, fmt.Errorf("wait for writes in flight: %w", err)
	}
	m.step = StepFlush
	return m.step, nil
}

// Flushed tells how making everything durable went. After an error FROM goes on as before.
func (m *Machine) Flushed(err error) (Step, error) {
	if err != nil {
		m.step = StepDone
		return m.step, fmt.Errorf("flush before the handover: %w", err)
	}
	m.step = StepPersist
	return m.step, nil
}

// Next is what StepPersist keeps.
func (m *Machine) Next() (epoch uint64, writer Writer) {
	if m.opening {
		return m.next, Everyone
	}
	return m.next, m.to
}

// Persisted tells how keeping the new epoch went. After an error nobody knows whether it is on the disk, so nobody
// writes: if TO's epoch is there, FROM must not, and if it is not, a restart would take the volume from TO again. Who
// wrote before everyone was to may write in either case, and does.
func (m *Machine) Persisted(err error) (Step, error) {
	epoch, writer := m.Next()
	opening := m.opening
	m.step, m.opening = StepDone, false
	if err != nil {
		m.tried, m.triedFor, m.doubt = epoch, writer, m.doubt || !opening
		err = fmt.Errorf("keep the new writer: %w", err)
		if m.doubt {
			err = fmt.Errorf("%w: %w", err, ErrInDoubt)
		}
		return m.step, err
	}
	if m.former == nil {
		m.former = make(map[Writer]bool)
	}
	if !opening {
		m.former[m.from] = true
	}
	m.epoch, m.writer, m.doubt = epoch, writer, false
	return m.step, nil
}

// stopped reports whether nobody writes.
func (m *Machine) stopped() bool { return m.doubt || m.step != StepDone && !m.opening }

// Admits returns nil if a write of the identity may begin now.
func (m *Machine) Admits(w Writer) error {
	switch {
	case m.stopped():
		if w == m.to && !m.former[w] {
			return ErrNotWriter
		}
		return ErrHandedOver
	case m.open() || w == m.writer:
		return nil
	case m.former[w]:
		return ErrHandedOver
	}
	return ErrNotWriter
}

// Serving returns the writer and the epoch; an epoch of zero, or the writer Everyone, means that all with the right write.
func (m *Machine) Serving() (epoch uint64, writer Writer) { return m.epoch, m.writer }
