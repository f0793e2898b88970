package trial

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/model"
	"github.com/ratchetos/ratchet/plugins/migration/run/journal"
)

// errCrashed is what a manager gets that has crashed.
var errCrashed = errors.New("the manager has crashed")

// manager is what distinguishes one manager from the next: after its crash nothing of it reaches a host or the disk.
type manager struct {
	crashed atomic.Bool
	ctx     context.Context
	cancel  context.CancelFunc
}

func newManager() *manager {
	m := &manager{}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	return m
}

func (m *manager) crash() {
	m.crashed.Store(true)
	m.cancel()
}

// order carries out one order of the manager, unless it has crashed.
func (m *manager) order(ctx context.Context, do func(context.Context) error) error {
	if m.crashed.Load() {
		return errCrashed
	}
	ctx, cancel := context.WithCancel(ctx)
	defer context.AfterFunc(m.ctx, cancel)()
	defer cancel()
	err := do(ctx)
	if m.crashed.Load() {
		return errors.Join(errCrashed, err)
	}
	return err
}

// port is a host as a manager reaches it, with a fault in its way.
type port struct {
	hypervisor.Port
	host string
	m    *manager
	f    *fault
}

var _ hypervisor.Port = (*port)(nil)

// do carries out a call, with what shall happen before and after it.
func (p *port) do(ctx context.Context, call string, order func(context.Context) error) error {
	if err := p.f.at("before " + call + " " + p.host); err != nil {
		return err
	}
	err := p.m.order(ctx, order)
	if fault := p.f.at("after " + call + " " + p.host); fault != nil {
		return fault
	}
	return err
}

func (p *port) Describe(ctx context.Context, vm string) (s model.Shape, err error) {
	err = p.do(ctx, "Describe", func(ctx context.Context) (err error) {
		s, err = p.Port.Describe(ctx, vm)
		return err
	})
	return s, err
}

func (p *port) Status(ctx context.Context, vm string) (s hypervisor.State, err error) {
	err = p.do(ctx, "Status", func(ctx context.Context) (err error) {
		s, err = p.Port.Status(ctx, vm)
		return err
	})
	return s, err
}

func (p *port) Begin(ctx context.Context, m hypervisor.Move) (t hypervisor.Ticket, err error) {
	err = p.do(ctx, "Begin", func(ctx context.Context) (err error) {
		t, err = p.Port.Begin(ctx, m)
		return err
	})
	return t, err
}

// Prepare puts the relay between the hosts.
func (p *port) Prepare(ctx context.Context, m hypervisor.Move, t hypervisor.Ticket) (a hypervisor.Arrival, err error) {
	err = p.do(ctx, "Prepare", func(ctx context.Context) (err error) {
		if a, err = p.Port.Prepare(ctx, m, t); err != nil {
			return err
		}
		a.Address, err = p.f.between(a.Address)
		return err
	})
	return a, err
}

func (p *port) Perform(ctx context.Context, m hypervisor.Move, a hypervisor.Arrival, o hypervisor.Options) (t hypervisor.Transfer, err error) {
	err = p.do(ctx, "Perform", func(ctx context.Context) (err error) {
		t, err = p.Port.Perform(ctx, m, a, o)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &transfer{t, p}, nil
}

func (p *port) Finish(ctx context.Context, m hypervisor.Move, moved bool) error {
	return p.do(ctx, "Finish", func(ctx context.Context) error { return p.Port.Finish(ctx, m, moved) })
}

func (p *port) Confirm(ctx context.Context, m hypervisor.Move, moved bool) error {
	return p.do(ctx, "Confirm", func(ctx context.Context) error { return p.Port.Confirm(ctx, m, moved) })
}

func (p *port) Plug(ctx context.Context, vm string, d hypervisor.Plug) error {
	return p.do(ctx, "Plug", func(ctx context.Context) error { return p.Port.Plug(ctx, vm, d) })
}

func (p *port) Unplug(ctx context.Context, vm, id string) error {
	return p.do(ctx, "Unplug", func(ctx context.Context) error { return p.Port.Unplug(ctx, vm, id) })
}

// Resident passes on what not every port knows.
func (p *port) Resident(ctx context.Context, vm string) (uint64, error) {
	if r, ok := p.Port.(hypervisor.Resident); ok {
		return r.Resident(ctx, vm)
	}
	return 0, hypervisor.ErrNotHere
}

func (p *port) Channel(ctx context.Context, vm string) (c net.Conn, err error) {
	err = p.m.order(ctx, func(ctx context.Context) (err error) {
		c, err = p.Port.Channel(ctx, vm)
		return err
	})
	return c, err
}

type transfer struct {
	hypervisor.Transfer
	p *port
}

func (t *transfer) Progress(ctx context.Context) (g hypervisor.Progress, err error) {
	err = t.p.m.order(ctx, func(ctx context.Context) (err error) {
		g, err = t.Transfer.Progress(ctx)
		return err
	})
	return g, err
}

func (t *transfer) Limit(ctx context.Context, l hypervisor.Limits) error {
	return t.p.do(ctx, "Limit", func(ctx context.Context) error { return t.Transfer.Limit(ctx, l) })
}

func (t *transfer) Switchover(ctx context.Context) error {
	return t.p.do(ctx, "Switchover", func(ctx context.Context) error { return t.Transfer.Switchover(ctx) })
}

func (t *transfer) Complete(ctx context.Context) error {
	return t.p.do(ctx, "Complete", func(ctx context.Context) error { return t.Transfer.Complete(ctx) })
}

func (t *transfer) PostCopy(ctx context.Context) error {
	return t.p.do(ctx, "PostCopy", func(ctx context.Context) error { return t.Transfer.PostCopy(ctx) })
}

func (t *transfer) Cancel(ctx context.Context) error {
	return t.p.do(ctx, "Cancel", func(ctx context.Context) error { return t.Transfer.Cancel(ctx) })
}

// disk is where a manager journals, until it crashes.
type disk struct {
	journal.Disk
	m *manager
	f *fault
}

// Append implements journal.Disk.
func (d disk) Append(name string, size int64) (journal.File, error) {
	file, err := d.Disk.Append(name, size)
	return &journalFile{File: file, disk: d}, err
}

type journalFile struct {
	journal.File
	disk disk
	mu   sync.Mutex
	n    int
}

// Sync is a point at which a manager may crash, before or after it.
func (f *journalFile) Sync() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.n
	f.n++
	if f.disk.f.journalled(n, false) {
		f.disk.m.crash()
	}
	if f.disk.m.crashed.Load() {
		return errCrashed
	}
	err := f.File.Sync()
	if f.disk.f.journalled(n, true) {
		f.disk.m.crash()
		return errCrashed
	}
	return err
}

func (f *journalFile) Write(p []byte) (int, error) {
	if f.disk.m.crashed.Load() {
		return 0, errCrashed
	}
	return f.File.Write(p)
}

// Truncate of a dead manager does nothing: what it wrote last is torn or whole.
func (f *journalFile) Truncate(size int64) error {
	if f.disk.m.crashed.Load() {
		return errCrashed
	}
	return f.File.Truncate(size)
}

// soon bounds what a test waits for.
const soon = 90 * time.Second
