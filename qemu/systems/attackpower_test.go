package systems

import (
	"errors"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/ratchetos/ratchet/qemu/box"
	"github.com/ratchetos/ratchet/qemu/powercut"
)

// trap is a TPM bus that stops at one command, once it is set, and says so. The machine then waits for an answer that
// never comes, which is when its power is cut.
type trap struct {
	command uint32
	done    bool // let the TPM carry it out first
	set     atomic.Bool
	caught  chan struct{}
}

var errCut = errors.New("the power is cut")

func (p *trap) bus(command []byte, send func([]byte) ([]byte, error)) ([]byte, error) {
	if !p.set.Load() || code(command) != p.command {
		return send(command)
	}
	if p.done {
		if _, err := send(command); err != nil {
			return nil, err
		}
	}
	close(p.caught)
	return nil, errCut
}

// power cuts one attempt after each of its steps, on a disk that loses what was not flushed. The same steps with every
// order of lost writes are in boot/interrupt; here it is the image and QEMU's block layer that must keep their order.
func (s *counterSuite) power(t *testing.T) {
	t.Parallel()
	config := s.config(t, "cut")
	for i, c := range []struct {
		name  string
		trap  *trap  // nil: after all of them
		code  string // of the next boot
		count int    // that it adds to the counter
		runs  string
		extra bool
	}{
		{"after the intent", &trap{command: ccNVExtend}, "clean", 0, "third", true},
		{"after J was extended", &trap{command: ccNVIncrement}, "closing", 0, "third", true},
		{"after C was incremented", &trap{command: ccNVIncrement, done: true}, "closing", 1, "third", false},
		{"after the configuration was written", nil, "closing", 1, "cut", true},
	} {
		if c.extra && testing.Short() {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := s.machine(folder(c.name))
			must(t, box.Clone(dir, s.machine("life")))
			d, err := powercut.Open(filepath.Join(dir, "disk.img"))
			must(t, err)
			defer d.Close()
			drive, err := d.Serve(t.Context())
			must(t, err)
			defer drive.Stop()

			o := s.options(t, dir)
			o.BootDrive = func(string) (string, error) { return drive.Filename, nil }
			if c.trap != nil {
				c.trap.caught = make(chan struct{})
				o.Bus = c.trap.bus
			}
			m := boot(t, o)
			m.released("clean")
			n := number(t, m.counter().Counter)
			if c.trap == nil {
				m.apply(config)
			} else {
				c.trap.set.Store(true)
				m.cutOff(c.trap, "config", "apply", config)
			}
			must(t, m.Close())
			loss, err := d.Cut(uint64(i))
			must(t, err)

			m = boot(t, s.options(t, dir))
			m.released(c.code)
			m.counts(text(n+c.count), text(n+c.count), "0")
			m.runs(c.runs)
			must(t, m.Close())
			s.attack(t, rowPower, c.name, "released, %s, configuration %q, counter +%d (%d unflushed sectors, %d lost)",
				c.code, c.runs, c.count, loss.Unflushed, loss.Dropped+loss.Reordered)
		})
	}
}

// cutOff runs ratchetctl until the trap has caught the box at its command; the command itself never ends well.
func (m *machine) cutOff(p *trap, args ...string) {
	m.t.Helper()
	ctx := within(m.t, stepLimit)
	ended := make(chan error, 1)
	go func() {
		_, err := m.Ctl(ctx, args...)
		ended <- err
	}()
	select {
	case <-p.caught:
		m.Kill()
		<-ended
	case err := <-ended:
		m.t.Fatalf("ratchetctl ended before the box sent the command: %v", err)
	}
}
