package soak

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/ratchetos/ratchet/qemu/box"
	"github.com/ratchetos/ratchet/qemu/powercut"
)

// A step of a machine takes seconds; the limits are for a busy host and end what hangs.
const (
	bootLimit = 4 * time.Minute
	stepLimit = 2 * time.Minute
	lifeLimit = 20 * time.Minute // of one power-on
	// maxBoots may pass from a cut to a healthy box: boot/slot's count ends in the recovery console at the sixth.
	maxBoots = 6
)

// kind is what a machine asks of the outside.
type kind int

const (
	write kind = iota // to the disk
	flush
	chip // a TPM command whose effect outlasts a reset
	kinds
)

func (k kind) String() string { return [...]string{"write", "flush", "lasting TPM command"}[k] }

// fuse counts requests and holds one of them back for ever.
type fuse struct {
	mu    sync.Mutex
	count [kinds]int
	armed bool
	kind  kind
	at    int
	blown chan struct{} // closed when the request has come
	off   chan struct{} // closed when the machine is gone
}

func newFuse() *fuse { return &fuse{blown: make(chan struct{}), off: make(chan struct{})} }

// arm starts counting anew.
func (f *fuse) arm(k kind, at int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.count, f.armed, f.kind, f.at = [kinds]int{}, true, k, at
}

// measure counts and holds nothing back.
func (f *fuse) measure() { f.arm(kinds, -1) }

func (f *fuse) counts() [kinds]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.count
}

// request is called before each.
func (f *fuse) request(k kind) {
	f.mu.Lock()
	n := f.count[k]
	f.count[k]++
	blow := f.armed && k == f.kind && n == f.at
	if blow {
		close(f.blown)
	}
	hangs := blow
	select {
	case <-f.blown:
		hangs = true // whatever comes behind it
	default:
	}
	f.mu.Unlock()
	if hangs {
		<-f.off
	}
}

// lasting are the TPM commands whose effect outlasts a reset: TPM 2.0 Library, part 2, 6.5.2.
var lasting = map[uint32]bool{
	0x12A: true, 0x122: true, 0x137: true, 0x134: true, 0x136: true, 0x135: true, 0x129: true, 0x120: true, 0x127: true, 0x13A: true,
}

// machine is one power-on with a disk that loses what was not flushed.
type machine struct {
	*box.Box
	fuse   *fuse
	disk   *powercut.Disk
	server *powercut.Server
}

// on starts a machine.
func on(ctx context.Context, o box.Options) (m *machine, err error) {
	m = &machine{fuse: newFuse()}
	o.Limit = lifeLimit
	o.BootDrive = func(path string) (string, error) {
		if m.disk, err = powercut.Open(path); err != nil {
			return "", err
		}
		m.disk.Before = func(f bool) {
			if f {
				m.fuse.request(flush)
			} else {
				m.fuse.request(write)
			}
		}
		if m.server, err = m.disk.Serve(ctx); err != nil {
			return "", err
		}
		return m.server.Filename, nil
	}
	o.Bus = func(command []byte, send func([]byte) ([]byte, error)) ([]byte, error) {
		if lasting[binary.BigEndian.Uint32(command[6:])] {
			m.fuse.request(chip)
		}
		return send(command)
	}
	if m.Box, err = box.Boot(ctx, o); err != nil {
		if m.server != nil {
			err = errors.Join(err, m.server.Stop(), m.disk.Close())
		}
		return nil, err
	}
	return m, nil
}

// cut pulls the plug.
func (m *machine) cut(seed uint64) (powercut.Loss, error) {
	m.Kill()
	close(m.fuse.off)
	err := errors.Join(m.server.Stop(), m.Close())
	loss, cutErr := m.disk.Cut(seed)
	return loss, errors.Join(err, cutErr)
}

// end is a cut that nothing comes after; a machine that did not start has none.
func (m *machine) end() error {
	if m == nil {
		return nil
	}
	_, err := m.cut(0)
	return err
}

// boots is how often an image has started in this power-on.
func (m *machine) boots() (n int) {
	for _, l := range m.Console() {
		if strings.Contains(l.Text, "ratchet: image ") {
			n++
		}
	}
	return n
}

// awaits waits for a line, and ends when the box is isolated, or the fuse has blown.
func (m *machine) awaits(ctx context.Context, pattern string) (groups []string, blown bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, maxBoots*bootLimit/2)
	defer cancel()
	type answer struct {
		groups []string
		err    error
	}
	got := make(chan answer, 1)
	go func() {
		match, err := m.ExpectLine(ctx, `ratchet: verdict (ISOLATED)|`+pattern)
		got <- answer{match.Groups, err}
	}()
	select {
	case <-m.fuse.blown:
		cancel()
		<-got
		return nil, true, nil
	case a := <-got:
		if a.err == nil && a.groups[1] != "" {
			reason, _ := m.ExpectLine(ctx, `ratchet: reason (.*)`)
			a.err = fmt.Errorf("the box is isolated: %s", reason.Text)
		}
		if n := m.boots(); a.err == nil && n > maxBoots {
			a.err = fmt.Errorf("it took %d boots", n)
		}
		return a.groups, false, a.err
	}
}

// ctl runs ratchetctl until it ends or the fuse has blown, which is no error.
func (m *machine) ctl(ctx context.Context, args ...string) (out []byte, blown bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, bootLimit)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		out, err = m.Ctl(ctx, args...)
	}()
	select {
	case <-m.fuse.blown:
		cancel()
		<-done
		return nil, true, nil
	case <-done:
		return out, false, err
	}
}

// point is where the next cut comes, given how many requests there are.
func point(r *rand.Rand, counts [kinds]int) (k kind, at int) {
	k = kind(r.IntN(int(kinds)))
	return k, r.IntN(max(counts[k], 1))
}

// lines keeps the output of two lives apart.
type lines struct {
	mu sync.Mutex
	to io.Writer
}

func (l *lines) print(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintf(l.to, format+"\n", args...)
}
