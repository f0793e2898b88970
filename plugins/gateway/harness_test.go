package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
	"github.com/ratchetos/ratchet/plugins/gateway/nbd/nbdtest"
	"github.com/ratchetos/ratchet/plugins/internal/log"
)

const childConfig = "RATCHET_TEST_GATEWAY"

// TestMain makes the test binary a gateway process when a test asks for one.
func TestMain(m *testing.M) {
	if section := os.Getenv(childConfig); section != "" {
		if err := child([]byte(section)); err != nil {
			fmt.Fprintln(os.Stderr, "gateway process:", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// child serves what it inherits, as a plugin process does, until SIGTERM.
func child(section []byte) error {
	stop, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	f := New()
	if err := f.Configure(stop, plugin.Section{JSON: section}); err != nil {
		return err
	}
	handles := map[string]plugin.Handle{}
	for i, want := range []string{wantListener(0), wantDisk(0), wantStore(0), wantRing(boxName)} {
		h := plugin.Handle{Name: want, ID: "test", File: os.NewFile(uintptr(3+i), want)}
		if want == wantRing(boxName) {
			h.Size = boxRing
		}
		handles[want] = h
	}
	if err := f.Start(stop, &plugin.Session{Handles: handles, Report: func(plugin.Event) {}, Log: slog.New(slog.DiscardHandler)}); err != nil {
		return err
	}
	<-stop.Done()
	return f.Stop(context.Background())
}

// box is the hardware of one gateway: a disk, a store's directory, a listening socket and the memory of
// the acknowledgement ring that, as in core, outlive the process.
type box struct {
	t        *testing.T
	section  []byte
	disk     string
	store    string
	listener *net.UnixListener
	ring     *os.File
	tenants  int               // volumes on the disk; 0 is one
	host     *fakeHost         // nil for none
	secrets  map[string]string // files that core hands out: path by want
	missing  []string          // wants that core cannot open at the start
}

// fakeHost is core's key-value space.
type fakeHost struct {
	plugin.Host
	mu   sync.Mutex
	keys map[string][]byte
	late map[string]string // files that can be claimed, by want
	asks chan struct{}     // of nobody's while it is nil; else one is sent when something is claimed, and one taken before it is given
}

func (h *fakeHost) Claim(_ context.Context, w plugin.Want) (plugin.Handle, error) {
	h.mu.Lock()
	path := h.late[w.GetName()]
	h.mu.Unlock()
	if h.asks != nil {
		h.asks <- struct{}{}
		<-h.asks
	}
	if path == "" {
		return plugin.Handle{}, fmt.Errorf("open %s: there is none", w.GetSelector())
	}
	mode := os.O_RDWR | unix.O_DIRECT
	if w.GetKind() != pluginpb.Kind_DISK {
		mode = os.O_RDONLY
	}
	f, err := os.OpenFile(path, mode, 0)
	return plugin.Handle{Name: w.GetName(), ID: path, File: f}, err
}

// appear lets a file be claimed.
func (h *fakeHost) appear(want, path string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.late == nil {
		h.late = map[string]string{}
	}
	h.late[want] = path
}

func newHost() *fakeHost { return &fakeHost{keys: map[string][]byte{}} }

func (h *fakeHost) Get(_ context.Context, key string) ([]byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.keys[key], nil
}

func (h *fakeHost) Put(_ context.Context, key string, value []byte) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.keys[key] = value
	return nil
}

// grow makes the disk larger.
func (b *box) grow(size int64) {
	b.t.Helper()
	if err := os.Truncate(b.disk, size); err != nil {
		b.t.Fatal(err)
	}
}

// export connects to an export that is not the box's own volume.
func (b *box) export(name string) *nbdtest.Client {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 10*time.Second)
	defer cancel()
	c, err := nbdtest.Dial(ctx, "unix", b.listener.Addr().String(), name, nbdtest.Options{})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(c.Abandon)
	return c
}

const (
	boxName   = "demo"
	boxRing   = 8<<20 + log.BlockSize // its first page is the header
	boxVolume = 16 << 20
	boxDisk   = 40 << 20
)

func newBox(t *testing.T, store string) *box {
	t.Helper()
	dir := t.TempDir()
	b := &box{t: t, disk: filepath.Join(dir, "disk"), store: store}
	// Written, not just sized: the log wants blocks that are allocated already.
	if err := os.WriteFile(b.disk, make([]byte, boxDisk), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "nbd"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	b.listener = l
	fd, err := unix.MemfdCreate("ring", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	b.ring = os.NewFile(uintptr(fd), "ring")
	t.Cleanup(func() { b.ring.Close() })
	if err := b.ring.Truncate(boxRing); err != nil {
		t.Fatal(err)
	}
	b.section = section(t, map[string]any{
		"volumes": []any{map[string]any{
			"name": boxName, "ring": 8 << 20, "size": boxVolume, "disk": "file:" + b.disk,
			"store":  map[string]any{"driver": "dir", "path": store},
			"upload": map[string]any{"max_age": "20ms"},
		}},
	})
	return b
}

func section(t *testing.T, v any) []byte {
	t.Helper()
	p, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// files opens what core would hand out.
func (b *box) files() (listener, disk, store *os.File) {
	b.t.Helper()
	listener, err := b.listener.File()
	if err != nil {
		b.t.Fatal(err)
	}
	if disk, err = os.OpenFile(b.disk, os.O_RDWR|unix.O_DIRECT, 0); err != nil {
		b.t.Fatal(err)
	}
	if store, err = os.Open(b.store); err != nil {
		b.t.Fatal(err)
	}
	return listener, disk, store
}

// ringFile is a descriptor of the ring for a gateway to keep.
func (b *box) ringFile() *os.File {
	b.t.Helper()
	fd, err := unix.FcntlInt(b.ring.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		b.t.Fatal(err)
	}
	return os.NewFile(uintptr(fd), "ring")
}

// spawn starts a gateway process on the box.
func (b *box) spawn() *exec.Cmd {
	b.t.Helper()
	l, d, s := b.files()
	defer l.Close()
	defer d.Close()
	defer s.Close()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childConfig+"="+string(b.section))
	cmd.ExtraFiles = []*os.File{l, d, s, b.ring}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	return cmd
}

// start runs the feature in this process.
func (b *box) start() *Feature {
	b.t.Helper()
	return b.startWith(New())
}

func (b *box) startWith(f *Feature) *Feature {
	b.t.Helper()
	if err := f.Configure(b.t.Context(), plugin.Section{JSON: b.section}); err != nil {
		b.t.Fatal(err)
	}
	l, d, s := b.files()
	events := make(chan *pluginpb.Event, 1)
	handles := map[string]plugin.Handle{
		wantListener(0): {File: l}, wantDisk(0): {File: d, ID: "serial:test"}, wantStore(0): {File: s}, wantRing(boxName): {File: b.ringFile(), Size: boxRing},
	}
	for i := 1; i < b.tenants; i++ {
		dir, err := os.Open(b.store)
		if err != nil {
			b.t.Fatal(err)
		}
		handles[wantStore(i)] = plugin.Handle{File: dir}
	}
	for want, path := range b.secrets {
		file, err := os.Open(path)
		if err != nil {
			b.t.Fatal(err)
		}
		handles[want] = plugin.Handle{File: file, ID: path}
	}
	for _, want := range b.missing {
		if f := handles[want].File; f != nil {
			f.Close()
		}
		delete(handles, want)
	}
	session := &plugin.Session{
		Handles: handles,
		Log:     slog.New(slog.DiscardHandler),
		Report: func(e plugin.Event) {
			select {
			case events <- e:
			default:
			}
		},
	}
	if b.host != nil {
		session.Host = b.host
	}
	if err := f.Start(b.t.Context(), session); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = f.Stop(context.Background()) })
	return f
}

// dial connects, waiting for the export to appear.
func (b *box) dial(ctx context.Context) (*nbdtest.Client, error) {
	for {
		c, err := nbdtest.Dial(ctx, "unix", b.listener.Addr().String(), "demo", nbdtest.Options{})
		if err == nil || ctx.Err() != nil {
			return c, err
		}
		select { // the socket outlives the server, so there is nothing to wait on but time
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
		}
	}
}

func (b *box) mustDial() *nbdtest.Client {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 20*time.Second)
	defer cancel()
	c, err := b.dial(ctx)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(c.Abandon)
	return c
}

func invoke[T any](t *testing.T, f *Feature, method string, request any) (T, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var reply T
	p, err := f.Invoke(ctx, method, section(t, request))
	if err != nil {
		return reply, err
	}
	if err := json.Unmarshal(p, &reply); err != nil {
		t.Fatal(err)
	}
	return reply, nil
}
