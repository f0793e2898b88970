package lab

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/ratchetos/ratchet/plugins/migration/model"
	"github.com/ratchetos/ratchet/plugins/migration/vmhost/pki"
	"github.com/ratchetos/ratchet/qemu/lab/load"
)

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

	mu        sync.Mutex
	guests    map[[16]byte]*Guest
	hosts     []*Host
	authority *pki.Authority
	closes    []func()
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
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("open a lab: %w", err)
	}
	l.reading.Go(l.read)
	return l, nil
}

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

// Guest gives a guest its identity. It runs nowhere yet.
func (l *Lab) Guest(vm string) (*Guest, error) { return l.GuestOf(l.Image.Shape(vm)) }

// GuestOf is Guest for a shape of the caller's own.
func (l *Lab) GuestOf(s model.Shape) (*Guest, error) {
	g := &Guest{BootID: uuid.NewString(), Shape: s, lab: l, answers: make(chan load.Result, 1), ordering: make(chan struct{}, 1)}
	id, err := hex.DecodeString(strings.ReplaceAll(g.BootID, "-", ""))
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.guests[[16]byte(id)] = g
	return g, nil
}

// all are its guests.
func (l *Lab) all() []*Guest {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Collect(maps.Values(l.guests))
}

// host is one by its name, nil if there is none.
func (l *Lab) host(name string) *Host {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, h := range l.hosts {
		if h.Name == name {
			return h
		}
	}
	return nil
}

// control is what a guest is told.
func (l *Lab) control(g *Guest) ([]byte, error) {
	b, err := json.Marshal(load.Control{Name: g.BootID, Port: l.conn.LocalAddr().(*net.UDPAddr).Port})
	return append(b, '\n'), err
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
