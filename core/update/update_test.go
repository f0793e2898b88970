package update

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/boot/bundle"
	"github.com/ratchetos/ratchet/boot/slot"
	"github.com/ratchetos/ratchet/boot/verdict"
)

// TestLife follows a box through an update that proves itself, settles, and makes the old one impossible.
func TestLife(t *testing.T) {
	b := newBox(t)
	b.live(time.Minute)
	r, err := b.install(b.bundle("2.0", 2, nil))
	must(t, err)
	if r.Slot != "B" || r.Attempt != 11 || b.version("A") != "1.0" || b.version("B") != "2.0" {
		t.Fatalf("%+v; slots hold %s and %s", r, b.version("A"), b.version("B"))
	}
	if s, err := b.Status(t.Context()); err != nil || s.Next != "B" || s.First != "A" || s.Slots[1].Attempt != 11 || s.Slots[1].Code != "written" {
		t.Errorf("%+v, %v", s, err)
	}
	if i := b.counter.open[0]; i.Target != "image:B" || i.Signer != "alice" || i.To.SecurityVersion() != 2 {
		t.Errorf("intent %+v", i)
	}

	if s := b.power(); s != "B" {
		t.Fatalf("slot %s is tried", s)
	}
	b.boot("B", "2.0", 2)
	b.live(time.Minute)
	if b.power() != "B" || b.counter.floor != 1 {
		t.Errorf("after health: slot %s first, security version %d", b.power(), b.counter.floor)
	}
	// Six hours, off and on again, the rest of the day.
	b.live(6 * time.Hour)
	b.boot("B", "2.0", 2)
	b.live(17 * time.Hour)
	if v := b.version("A"); v != "1.0" {
		t.Errorf("slot A holds %s before its time", v)
	}
	b.live(3 * time.Hour)
	if v := b.version("A"); v != "2.0" || b.counter.floor != 2 {
		t.Errorf("settled: slot A holds %s, security version %d; %q", v, b.counter.floor, b.said)
	}
	if i := b.counter.open[0]; i.Target != "image:A" || i.To.SecurityVersion() != 2 {
		t.Errorf("intent %+v", i)
	}
	b.boot("B", "2.0", 2)
	if _, err := b.install(b.bundle("1.0", 1, nil)); !errors.Is(err, bundle.ErrOld) {
		t.Errorf("an older one: %v", err)
	}
}

// TestRevokes settles at once.
func TestRevokes(t *testing.T) {
	b := newBox(t)
	_, err := b.install(b.bundle("2.0", 2, func(m *bundle.Manifest) { m.Revokes = true }))
	must(t, err)
	b.boot(b.power(), "2.0", 2)
	b.live(time.Minute)
	if v := b.version("A"); v != "2.0" || b.counter.floor != 2 {
		t.Errorf("slot A holds %s, security version %d; %q", v, b.counter.floor, b.said)
	}
}

// TestTrialFails: a slot that never gets healthy restarts the box, once; the one before stays and is not replaced.
func TestTrialFails(t *testing.T) {
	b := newBox(t)
	b.live(time.Minute)
	_, err := b.install(b.bundle("2.0", 2, nil))
	must(t, err)
	b.boot(b.power(), "2.0", 2)
	b.ready = false
	b.live(10 * time.Minute)
	if len(b.restarts) != 1 || b.power() != "A" {
		t.Fatalf("restarts %q, then slot %s", b.restarts, b.power())
	}
	b.boot("A", "1.0", 1)
	b.live(time.Hour) // no plugin is ready, but this slot is nobody's trial
	if len(b.restarts) != 1 {
		t.Errorf("restarts %q", b.restarts)
	}
	b.ready = true
	b.live(48 * time.Hour)
	if b.version("B") != "2.0" || b.counter.floor != 1 {
		t.Errorf("slot B holds %s, security version %d", b.version("B"), b.counter.floor)
	}
}

func TestRollback(t *testing.T) {
	b := newBox(t)
	b.put("B", b.image("2.0"))
	b.boot("B", "2.0", 2)
	b.live(time.Minute)
	r, err := b.Rollback(t.Context(), true)
	must(t, err)
	if r.Slot != "A" || len(b.restarts) != 1 || b.power() != "A" {
		t.Fatalf("%+v %q", r, b.restarts)
	}
	b.boot("A", "1.0", 1)
	b.live(48 * time.Hour)
	if b.version("B") != "2.0" || b.power() != "A" {
		t.Errorf("slot B holds %s, slot %s first", b.version("B"), b.power())
	}
	b.put("B", b.image("2.0")[:10])
	must(t, os.Truncate(filepath.Join(b.dir, "slot-B"), 0))
	must(t, os.Truncate(filepath.Join(b.dir, "slot-B"), slotSize))
	b.boot("A", "1.0", 1)
	if _, err := b.Rollback(t.Context(), false); !errors.Is(err, ErrNothing) {
		t.Errorf("to a bad slot: %v", err)
	}
}

// TestRefuses: each bad bundle is refused with its reason, and nothing is changed by it.
func TestRefuses(t *testing.T) {
	b := newBox(t)
	b.counter.floor = 1
	b.boot("A", "1.0", 1)
	good := b.bundle("2.0", 2, nil)
	other := *b
	other.key = newBox(t).key
	tampered := bytes.Clone(good)
	tampered[len(tampered)/2] ^= 1
	for name, c := range map[string]struct {
		data []byte
		want error
	}{
		"truncated": {good[:len(good)/2], bundle.ErrDamaged},
		"tampered":  {tampered, bundle.ErrDamaged},
		"no bundle": {bytes.Repeat([]byte("hello "), 1000), bundle.ErrDamaged},
		"empty":     {[]byte{0}, bundle.ErrDamaged},
		"other key": {other.bundle("2.0", 2, nil), bundle.ErrSigner},
		"old":       {b.bundle("2.0", 0, nil), bundle.ErrOld},
		"flavour":   {b.bundle("2.0", 2, func(m *bundle.Manifest) { m.Flavour = "cloud" }), bundle.ErrOther},
		"arch":      {b.bundle("2.0", 2, func(m *bundle.Manifest) { m.Arch = "riscv64" }), bundle.ErrOther},
		"product":   {b.bundle("2.0", 2, func(m *bundle.Manifest) { m.Product = "kettle" }), bundle.ErrOther},
	} {
		if _, err := b.install(c.data); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		b.untouched(name)
	}
	if _, err := b.apply(Request{}); !errors.Is(err, ErrNothing) {
		t.Errorf("nothing staged: %v", err)
	}
	b.counter.refuses = errors.New("too many attempts")
	if _, err := b.install(good); !errors.Is(err, b.counter.refuses) {
		t.Errorf("no attempt: %v", err)
	}
	b.forgetStaged()
	b.untouched("no attempt")
}

// TestTooLarge: a bundle whose image cannot fit ends at its manifest, an endless one at the limit.
func TestTooLarge(t *testing.T) {
	b := newBox(t)
	huge := b.bundle("2.0", 2, nil)
	b.report.BootDisk.Slots[1].Node = filepath.Join(b.dir, "small")
	must(t, os.WriteFile(b.report.BootDisk.Slots[1].Node, make([]byte, 34<<20), 0o600))
	b.start()
	uki := bytes.Repeat([]byte("x"), 36<<20)
	for at := int64(0); ; at += piece {
		_, err := b.Stage(at, uki[:piece])
		if err != nil {
			if !errors.Is(err, bundle.ErrOther) {
				t.Error(err)
			}
			break
		}
		if at > 64<<20 {
			t.Fatal("no end")
		}
	}
	if _, err := b.install(huge); err != nil {
		t.Error(err) // it fits after all
	}
}

func TestStageInOrder(t *testing.T) {
	b := newBox(t)
	data := b.bundle("2.0", 2, nil)
	must(t, second(false, errorOf(b.Stage(0, data[:1000]))))
	if size, err := b.Stage(2000, data[2000:3000]); err == nil || size != 1000 {
		t.Errorf("a hole: %d, %v", size, err)
	}
	must(t, errorOf(b.Stage(1000, data[1000:])))
	must(t, errorOf(b.Stage(0, data))) // somebody starts again
	_, err := b.apply(Request{})
	must(t, err)
}

func errorOf[T any](_ T, err error) error { return err }

// TestFullState: what does not fit on STATE is said, and removed.
func TestFullState(t *testing.T) {
	b := newBox(t)
	b.o.Dir = "/dev/full/update"
	if _, err := b.Stage(0, []byte("x")); !errors.Is(err, ErrStorage) {
		t.Error(err)
	}
	b.o.Dir = filepath.Join(b.dir, "full")
	must(t, os.Mkdir(b.o.Dir, 0o700))
	must(t, os.Symlink("/dev/full", filepath.Join(b.o.Dir, "bundle")))
	if _, err := b.Stage(0, b.bundle("2.0", 2, nil)); !errors.Is(err, ErrStorage) || !strings.Contains(err.Error(), "full") {
		t.Error(err)
	}
	b.untouched("full STATE")
}

// TestBlocked: boxes that cannot be updated say why.
func TestBlocked(t *testing.T) {
	for want, change := range map[string]func(*box){
		"isolated":       func(b *box) { b.report.Box = verdict.Verdict{Decision: verdict.Isolated, Reason: "a test"} },
		"kernel":         func(b *box) { b.report.Slot = "" },
		"0 image slots":  func(b *box) { b.report.BootDisk.Slots = nil },
		"read bundle":    func(b *box) { b.report.BundleKeys = []string{"x"} },
		"boot variables": func(b *box) { b.vars = nil },
	} {
		b := newBox(t)
		change(b)
		b.start()
		if b.vars == nil {
			b.o.Firmware = slot.Firmware{}
			b.Manager = New(b.o)
		}
		_, stage := b.Stage(0, []byte("x"))
		_, apply := b.apply(Request{})
		_, back := b.Rollback(t.Context(), false)
		for _, err := range []error{stage, apply, back} {
			if !errors.Is(err, ErrBlocked) || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v", want, err)
			}
		}
		if s, err := b.Status(t.Context()); err != nil || !strings.Contains(s.Blocked, want) {
			t.Errorf("status says %q, %v", s.Blocked, err)
		}
	}
}

// TestIsolatedTrial: an image that is isolated on its trial gives up; an isolated box that is not on trial stays.
func TestIsolatedTrial(t *testing.T) {
	for _, c := range []struct {
		running int // index of the slot that runs
		want    int // restarts
	}{{0, 0}, {1, 1}} {
		b := newBox(t)
		b.live(time.Minute) // slot A is first
		var guid []byte
		for _, r := range b.report.BootDisk.Slots[c.running].GUID {
			guid = append(guid, byte(r), 0)
		}
		must(t, b.vars.Set("LoaderDevicePartUUID", "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f", append(guid, 0, 0)))
		b.report.Box = verdict.Verdict{Decision: verdict.Isolated, Reason: "a test"}
		b.report.Slot, b.report.BootDisk = "", verdict.Disk{}
		b.start()
		b.o.Times.Deadline = time.Millisecond
		b.Run(t.Context())
		if len(b.restarts) != c.want {
			t.Errorf("slot %d: restarts %q", c.running, b.restarts)
		}
	}
}

// flaky serves a file and closes each answer after so many bytes.
type flaky struct {
	data     []byte
	etag     string
	limit    int
	requests atomic.Int32
	ranges   []string
}

func (f *flaky) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.requests.Add(1)
	f.ranges = append(f.ranges, r.Header.Get("Range"))
	w.Header().Set("ETag", f.etag)
	if f.limit > 0 {
		w = &cutter{ResponseWriter: w, left: f.limit}
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.data))
}

// cutter breaks the connection off.
type cutter struct {
	http.ResponseWriter
	left int
}

func (c *cutter) Write(b []byte) (int, error) {
	if len(b) >= c.left {
		c.ResponseWriter.Write(b[:c.left])
		panic(http.ErrAbortHandler)
	}
	c.left -= len(b)
	return c.ResponseWriter.Write(b)
}

func TestDownload(t *testing.T) {
	b := newBox(t)
	f := &flaky{data: b.bundle("2.0", 2, nil), etag: `"v1"`, limit: 1_000_000}
	s := httptest.NewServer(f)
	defer s.Close()
	var last int64
	_, err := b.Apply(t.Context(), Request{URL: s.URL + "/u"}, func(phase string, done, total int64) {
		if phase == "download" {
			if total != int64(len(f.data)) || done < last {
				t.Errorf("download %d of %d after %d", done, total, last)
			}
			last = done
		}
	})
	must(t, err)
	if want := len(f.data)/f.limit + 1; int(f.requests.Load()) != want || f.ranges[1] != fmt.Sprintf("bytes=%d-", f.limit) {
		t.Errorf("%d requests, want %d; %q", f.requests.Load(), want, f.ranges)
	}
	if b.version("B") != "2.0" {
		t.Errorf("slot B holds %s", b.version("B"))
	}
}

// TestDownloadChanges: a file that changed on the server between two pieces is fetched anew, not glued together.
func TestDownloadChanges(t *testing.T) {
	b := newBox(t)
	f := &flaky{data: b.bundle("2.0", 2, nil), etag: `"v1"`, limit: 500_000}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f.requests.Load() == 1 {
			f.data, f.etag, f.limit = b.bundle("3.0", 3, nil), `"v2"`, 0
		}
		f.ServeHTTP(w, r)
	}))
	defer s.Close()
	must(t, errorOf(b.apply(Request{URL: s.URL})))
	if b.version("B") != "3.0" {
		t.Errorf("slot B holds %s", b.version("B"))
	}
}

func TestDownloadRefused(t *testing.T) {
	b := newBox(t)
	s := httptest.NewServer(http.NotFoundHandler())
	defer s.Close()
	for _, address := range []string{"ftp://x/y", "nonsense", "http://", "file:///etc/passwd", s.URL} {
		if _, err := b.apply(Request{URL: address}); !errors.Is(err, ErrSource) {
			t.Errorf("%s: %v", address, err)
		}
	}
	b.untouched("no download")
}

// TestProxy goes through the proxy that the configuration names.
func TestProxy(t *testing.T) {
	b := newBox(t)
	f := &flaky{data: b.bundle("2.0", 2, nil), etag: `"v1"`}
	var asked string
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.URL.String()
		f.ServeHTTP(w, r)
	}))
	defer proxy.Close()
	u, err := url.Parse(proxy.URL)
	must(t, err)
	b.o.Proxy = http.ProxyURL(u)
	must(t, errorOf(b.apply(Request{URL: "http://updates.invalid/2.0"})))
	if asked != "http://updates.invalid/2.0" {
		t.Errorf("the proxy was asked for %q", asked)
	}
}

// TestOrderedEnd: a boot that somebody ended in order does not count.
func TestOrderedEnd(t *testing.T) {
	b := newBox(t)
	f := slot.Firmware{Variables: b.vars}
	for range 10 {
		if _, step, err := f.Begin(b.report.BootDisk.Slots[0].GUID); step != slot.Continue || err != nil {
			t.Fatal(step, err)
		}
		b.start()
		b.Ending()
	}
	if n, err := f.Count(); n != 0 || err != nil {
		t.Errorf("count %d, %v", n, err)
	}
}
