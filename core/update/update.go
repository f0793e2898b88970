package update

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/ratchetos/ratchet/boot/attempt"
	"github.com/ratchetos/ratchet/boot/bundle"
	"github.com/ratchetos/ratchet/boot/esp"
	"github.com/ratchetos/ratchet/boot/ledger"
	"github.com/ratchetos/ratchet/boot/slot"
	"github.com/ratchetos/ratchet/boot/verdict"
	"github.com/ratchetos/ratchet/core/state"
)

var (
	// ErrBusy says that another update is under way.
	ErrBusy = errors.New("another update is under way; see: ratchetctl update status")
	// ErrBlocked says that this box, as it is, cannot be updated.
	ErrBlocked = errors.New("this box cannot be updated")
	// ErrNothing says that there is nothing staged, or nothing to go back to.
	ErrNothing = errors.New("there is nothing to install")
	// ErrStorage says that STATE is full or fails.
	ErrStorage = errors.New("the bundle cannot be kept on STATE")
	// ErrSource says that the bundle could not be fetched.
	ErrSource = errors.New("the bundle cannot be downloaded")
)

// Attempts opens attempts; *attempt.Manager does.
type Attempts interface {
	Open(ctx context.Context, i ledger.Intent) (attempt.Attempt, error)
	Judge(ctx context.Context) (verdict.Judgement, error)
	RaiseV(ctx context.Context, coreKey []byte, floor uint) error
}

var _ Attempts = (*attempt.Manager)(nil)

// Slot is an open image slot; *slot.Device is one.
type Slot interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Sync() error
	Size() int64
}

var _ Slot = (*slot.Device)(nil)

// Options of a Manager. Report and Attempts are needed; the rest has useful zero values.
type Options struct {
	// Report says where the slots are, which one runs and who may publish updates.
	Report   *verdict.Report
	Attempts Attempts // nil on a box without a counter
	// CoreKey raises V; nil on a box that has none.
	CoreKey  []byte
	Firmware slot.Firmware
	// Open opens a slot by its node; slot.OpenDevice if nil.
	Open func(node string, write bool) (Slot, error)
	// Dir is a folder on STATE for bundles, "" without STATE.
	Dir string
	// Store keeps what has to survive a restart; nil without STATE.
	Store state.Store
	// Memory of the box in bytes, 0 when not known.
	Memory uint64
	// Ready says whether all enabled plugins serve.
	Ready func() bool
	// Restart ends the box in order and starts it again.
	Restart func(why string)
	// Clock is the boot clock.
	Clock func() time.Duration
	// Proxy chooses a proxy for downloads; nil for none.
	Proxy func(*http.Request) (*url.URL, error)
	// Say prints a line for the operator.
	Say func(format string, args ...any)
	Log *slog.Logger
	// Times are the defaults where zero; SetTimes changes them.
	Times Times
}

// Times are how long things have to last.
type Times struct {
	Healthy  time.Duration // ready without a break; 30 s
	Deadline time.Duration // for a trial to be healthy; 5 min
	Settle   time.Duration // of running before the other slot is replaced; 24 h
}

func (t Times) orDefaults() Times {
	pick := func(d, fallback time.Duration) time.Duration {
		if d == 0 {
			return fallback
		}
		return d
	}
	return Times{pick(t.Healthy, 30*time.Second), pick(t.Deadline, 5*time.Minute), pick(t.Settle, 24*time.Hour)}
}

// Manager updates one box.
type Manager struct {
	o       Options
	keys    bundle.Keys
	blocked error // why nothing can be updated
	changes sync.Mutex
	pause   time.Duration // before a download that was cut off goes on; it doubles
	stall   time.Duration // how long a server may say nothing

	staging sync.Mutex // over the staged bundle
	choice  sync.Mutex // over the boot variables and the trial that is kept beside them

	mu      sync.Mutex // over what follows
	healthy bool
	planned bool // the next boot tries the other slot
	boots   uint8
	last    *Result
	settle  *settling
	written map[string]ledger.Content // slots that were written and read back in this run
	raised  uint                      // security version that V was raised to in this run
}

// New does no I/O.
func New(o Options) *Manager {
	o.Times = o.Times.orDefaults()
	if o.Open == nil {
		o.Open = func(node string, write bool) (Slot, error) { return slot.OpenDevice(node, write) }
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Say == nil {
		o.Say = func(string, ...any) {}
	}
	m := &Manager{o: o, pause: time.Second, stall: stall, written: map[string]ledger.Content{}}
	var err error
	m.keys, err = bundle.ParseKeys(o.Report.BundleKeys)
	if err == nil {
		err = usable(o)
	}
	if err != nil {
		m.blocked = fmt.Errorf("%w: %w", ErrBlocked, err)
	}
	return m
}

// SetTimes has other times hold from now on.
func (m *Manager) SetTimes(t Times) {
	m.mu.Lock()
	m.o.Times = t.orDefaults()
	m.mu.Unlock()
}

// Times are those that hold.
func (m *Manager) Times() Times {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.o.Times
}

// usable says why a box cannot be updated.
func usable(o Options) error {
	switch r := o.Report; {
	case r.Box.Decision != verdict.Released:
		return fmt.Errorf("it is isolated: %s", r.Box.Reason)
	case o.Attempts == nil:
		return errors.New("it has no counter")
	case r.Slot == "":
		return errors.New("it was not started from an image slot but with a kernel from outside")
	case len(r.BootDisk.Slots) != len(slot.Names):
		return fmt.Errorf("its boot disk has %d image slots", len(r.BootDisk.Slots))
	case !o.Firmware.There():
		return errors.New("its firmware has no boot variables")
	}
	return nil
}

// places are the slots as firmware names them.
func (m *Manager) places() slot.Slots {
	s := slot.Slots{}
	for _, d := range m.o.Report.BootDisk.Slots {
		s[d.Name] = slot.Place{GUID: d.GUID, Number: d.Number, Start: d.Start, Size: d.Sectors}
	}
	return s
}

func (m *Manager) disk(name string) verdict.DiskSlot {
	i := slices.IndexFunc(m.o.Report.BootDisk.Slots, func(d verdict.DiskSlot) bool { return d.Name == name })
	if i < 0 {
		return verdict.DiskSlot{}
	}
	return m.o.Report.BootDisk.Slots[i]
}

// volume is the layout of a slot.
func (m *Manager) volume(name string, size int64) esp.Volume {
	return esp.Volume{Size: size, Hidden: uint32(m.disk(name).Start), Label: "ESP-" + name}
}

// bad are the slots that no order should name.
func (m *Manager) bad() map[string]bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	bad := map[string]bool{}
	for _, i := range m.o.Report.Images {
		_, again := m.written[i.Slot]
		bad[i.Slot] = i.Decision != verdict.Released && !again
	}
	return bad
}

// box is what a bundle must fit.
func (m *Manager) box(slotSize int64) bundle.Box {
	r := m.o.Report
	return bundle.Box{
		Flavour: r.Flavour, Arch: "x86_64", Memory: m.o.Memory, Development: r.Development,
		Floor: m.floor(), Slot: esp.Volume{Size: slotSize}.Capacity(),
	}
}

func (m *Manager) stagedPath() string { return filepath.Join(m.o.Dir, "bundle") }

// Progress is told while something is under way; done and total are bytes, total 0 when it is not known.
type Progress func(phase string, done, total int64)

// Result is what a change came to.
type Result struct {
	Version         string
	SecurityVersion uint
	Slot            string
	Digest          ledger.Digest
	Attempt         uint64 // 0 when the slot held the image already
	Bytes           int64
	Write, Read     time.Duration // to the medium and durable, and back from it
	Restart         bool
	Problem         string
}

// Status is where the box stands.
type Status struct {
	Running, First, Next string // slots
	Version              string
	SecurityVersion      uint
	Floor                uint
	Healthy              bool
	Boots                uint8
	Slots                []SlotStatus
	SettlesIn            time.Duration // 0 when nothing is to be settled
	Blocked              string
	Last                 *Result
}

// SlotStatus is one image slot.
type SlotStatus struct {
	verdict.Image
	Attempt uint64 // open on it, 0 for none
}

// Status reads where the box stands.
func (m *Manager) Status(ctx context.Context) (Status, error) {
	r := m.o.Report
	s := Status{Running: r.Slot, Version: r.Image, SecurityVersion: r.SecurityVersion, Floor: m.floor()}
	if m.blocked != nil {
		s.Blocked = m.blocked.Error()
	}
	m.mu.Lock()
	s.Healthy, s.Boots, s.Last = m.healthy, m.boots, m.last
	if m.settle != nil && !m.planned {
		s.SettlesIn = max(m.settle.left(m.o.Times.Settle), time.Second)
	}
	m.mu.Unlock()
	for _, i := range r.Images {
		s.Slots = append(s.Slots, SlotStatus{Image: i})
	}
	if m.blocked != nil {
		return s, nil
	}
	var err error
	if s.First, err = m.o.Firmware.Front(m.places()); err != nil {
		return s, err
	}
	if s.Next, err = m.o.Firmware.Trying(m.places()); err != nil {
		return s, err
	}
	j, err := m.o.Attempts.Judge(ctx)
	if err != nil {
		return s, err
	}
	for i := range s.Slots {
		name := s.Slots[i].Slot
		for _, open := range j.Open {
			if open.Target == ledger.SlotTarget(name) {
				s.Slots[i].Attempt = open.Number
			}
		}
		m.mu.Lock()
		if c, ok := m.written[name]; ok {
			s.Slots[i].Image = written(name, c)
		}
		m.mu.Unlock()
	}
	return s, nil
}

// written is a slot that this run has written; the next boot reads it and decides.
func written(name string, c ledger.Content) verdict.Image {
	return verdict.Image{Slot: name, Digest: c.Digest, Version: c.SecurityVersion(), Verdict: verdict.Verdict{
		Decision: verdict.Released, Code: "written", Reason: "it was written and read back; the next boot closes the attempt",
	}}
}

// begin makes the caller the one who changes something, until done is called.
func (m *Manager) begin() (done func(), err error) {
	if m.blocked != nil {
		return nil, m.blocked
	}
	if !m.changes.TryLock() {
		return nil, ErrBusy
	}
	return m.changes.Unlock, nil
}

// holds is what a slot holds, as far as core knows.
func (m *Manager) holds(ctx context.Context, name string) (ledger.Content, error) {
	m.mu.Lock()
	c, ok := m.written[name]
	m.mu.Unlock()
	if ok {
		return c, nil
	}
	j, err := m.o.Attempts.Judge(ctx)
	if err != nil {
		return ledger.Content{}, err
	}
	if !j.Released() || j.Ledger == nil {
		return ledger.Content{}, fmt.Errorf("%w: %s", ErrBlocked, j.Reason)
	}
	i := j.Ledger.Image(name)
	return ledger.OfImage(i.Digest, i.Version), nil
}

func (m *Manager) remember(r *Result) {
	m.mu.Lock()
	m.last = r
	m.mu.Unlock()
}
