package lab

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/ratchetos/ratchet/plugins/migration/model"
	"github.com/ratchetos/ratchet/qemu/lab/load"
)

// Networks is how many guests a lab may have: each has a network of its own, which tells it who it is.
const Networks = 4

// TB is what of testing.TB a lab needs.
type TB interface {
	Helper()
	Cleanup(func())
	Logf(format string, args ...any)
	Fatalf(format string, args ...any)
	Context() context.Context
}

// Lab is a place for guests and hosts.
type Lab struct {
	Image Image
	// Dir holds everything temporary.
	Dir string

	conn    *net.UDPConn
	reading sync.WaitGroup
	release func()

	mu     sync.Mutex
	guests map[[16]byte]*Guest
	count  int
	closes []func()
}

// New opens a lab that ends with the test.
func New(t TB) *Lab {
	t.Helper()
	l, err := Open(t.Context())
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(l.Close)
	return l
}

// Open waits for a slot on this machine and opens a lab.
func Open(ctx context.Context) (*Lab, error) {
	image, err := Build()
	if err != nil {
		return nil, err
	}
	release, err := takeSlot(ctx)
	if err != nil {
		return nil, err
	}
	l := &Lab{Image: image, release: release, guests: map[[16]byte]*Guest{}}
	// Short: the paths of sockets are.
	if l.Dir, err = os.MkdirTemp("", "lab-"); err == nil {
		l.conn, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	}
	for n := 0; n < Networks && err == nil; n++ {
		err = os.Mkdir(l.tftp(n), 0o755)
	}
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("open a lab: %w", err)
	}
	l.reading.Go(l.read)
	return l, nil
}

// tftp is the folder that network n serves.
func (l *Lab) tftp(n int) string { return filepath.Join(l.Dir, fmt.Sprintf("tftp%d", n)) }

// NetworkName is what Shapes call network n.
func NetworkName(n int) string { return fmt.Sprintf("lan%d", n) }

// Netdev is QEMU's -netdev value, without an id, of network n.
func (l *Lab) Netdev(n int) string { return "user,tftp=" + l.tftp(n) }

// OnClose has f called when the lab closes, the last one first.
func (l *Lab) OnClose(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closes = append(l.closes, f)
}

// Close ends everything.
func (l *Lab) Close() {
	l.mu.Lock()
	closes := l.closes
	l.closes = nil
	l.mu.Unlock()
	for _, f := range slices.Backward(closes) {
		f()
	}
	if l.conn != nil {
		l.conn.Close()
		l.reading.Wait()
	}
	if l.Dir != "" {
		os.RemoveAll(l.Dir)
	}
	l.release()
}

// Guest gives a guest its identity and the next network. It runs nowhere yet.
func (l *Lab) Guest(vm string) (*Guest, error) { return l.GuestOf(l.Image.Shape(vm)) }

// GuestOf is Guest for a shape of the caller's own, whose cards all come to the guest's network.
func (l *Lab) GuestOf(s model.Shape) (*Guest, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.count == Networks {
		return nil, fmt.Errorf("a lab has room for %d guests", Networks)
	}
	g := &Guest{BootID: uuid.NewString(), Shape: s, lab: l, network: l.count, answers: make(chan load.Result, 1), ordering: make(chan struct{}, 1)}
	l.count++
	g.Shape.NICs = slices.Clone(s.NICs)
	for i := range g.Shape.NICs {
		g.Shape.NICs[i].Network = NetworkName(g.network)
	}
	text, err := json.Marshal(load.Control{Name: g.BootID, Port: l.conn.LocalAddr().(*net.UDPAddr).Port})
	if err != nil {
		return nil, err
	}
	id, err := hex.DecodeString(strings.ReplaceAll(g.BootID, "-", ""))
	if err != nil {
		return nil, err
	}
	l.guests[[16]byte(id)] = g
	// Renamed into place: the guest may be asking already.
	file := filepath.Join(l.tftp(g.network), load.ControlFile)
	return g, errors.Join(os.WriteFile(file+".new", text, 0o644), os.Rename(file+".new", file))
}

// read takes beats and answers until the lab closes.
func (l *Lab) read() {
	buf := make([]byte, 2048)
	for {
		n, from, err := l.conn.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // a datagram of ours that nobody took
		}
		at := time.Now()
		if b, ok := load.ParseBeat(buf[:n]); ok {
			l.mu.Lock()
			g := l.guests[b.Name]
			l.mu.Unlock()
			if g != nil {
				g.Beats.add(beat{at: at, seq: b.Seq, from: from.String()})
				g.seenAt(from)
			}
			continue
		}
		var r load.Result
		if json.Unmarshal(buf[:n], &r) != nil {
			continue
		}
		l.mu.Lock()
		for _, g := range l.guests {
			if g.BootID == r.Name {
				g.answered(r)
			}
		}
		l.mu.Unlock()
	}
}
