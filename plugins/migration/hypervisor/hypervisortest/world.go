package hypervisortest

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/model"
	"github.com/ratchetos/ratchet/plugins/migration/model/load"
)

// World is hosts in memory between which VMs move.
type World struct {
	// Guest tells how a VM behaves; nil is one that writes nothing over links of 100 MB/s. Set before use.
	Guest func(vm string) Behaviour
	// Dial connects to the agent of a VM that runs; nil refuses. Set before use.
	Dial func(host, vm string) (net.Conn, error)

	mu      sync.Mutex
	hosts   map[string]*host
	guests  map[string]*guest
	volumes map[string]*volume
	fault   func(Call) Fault
	calls   int
	manager int // which of them lives; Ports remember theirs

	now     time.Duration // simulated: see Advance
	log     []Moment
	wrong   []string
	changed chan struct{} // closed and replaced at each change
	ports   []*Port
}

// Behaviour of a guest and the link its memory goes over, in bytes a second.
type Behaviour struct {
	Dirty     float64
	Bandwidth float64
	// Clings are devices that the guest does not let go of.
	Clings []string
	// Floor is the least that virtio-mem can be shrunk to, bytes.
	Floor uint64
}

// Moment is who ran after a call or a fault: hosts by VM.
type Moment struct {
	What    string
	Running map[string][]string
}

type host struct {
	vms   map[string]*process
	still map[string]bool // whether a VM that is gone stood still since its switch
	epoch uint64
	away  bool
	info  model.Host
	load  load.Host
}

// guest is a VM's life across hosts. Each time it is let run, its life is one longer; a process that holds an earlier
// length must never run again.
type guest struct{ life int }

type process struct {
	shape    model.Shape
	state    hypervisor.State
	life     int
	whole    bool   // has all memory
	move     string // of a destination that does not run yet
	transfer *transfer
}

type volume struct {
	owner string
	epoch uint64
}

// NewWorld makes hosts without VMs.
func NewWorld(names ...string) *World {
	w := &World{
		hosts: map[string]*host{}, guests: map[string]*guest{}, volumes: map[string]*volume{}, changed: make(chan struct{}),
	}
	for _, n := range names {
		w.hosts[n] = &host{vms: map[string]*process{}, still: map[string]bool{}, info: model.Host{
			Name: n, Hypervisor: "memory", Accels: []string{"tcg"}, Machines: []string{"pc-i440fx-7.2"},
			CPUs: []model.CPU{{Model: "qemu64"}}, Devices: []string{"e1000", "virtio-blk-pci", "virtio-net-pci"}, Networks: []string{"lan"},
			FreeVCPUs: 64, MaxVCPUs: 255, FreeMemory: 64 << 30, PostCopy: true, TLS: true,
		}, load: load.Host{CPUs: 16, Busy: time.Hour, Memory: 64 << 30, Available: 64 << 30}}
	}
	return w
}

// SetHost replaces what a host says it can hold.
func (w *World) SetHost(h model.Host) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hosts[h.Name].info = h
}

// SetLoad says what a host has to do.
func (w *World) SetLoad(host string, l load.Host) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hosts[host].load = l
}

// Start puts a running VM on a host; its volumes belong to that host from then on.
func (w *World) Start(host string, s model.Shape) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.guests[s.VM] = &guest{}
	p := &process{shape: s, whole: true, state: hypervisor.Paused}
	w.hosts[host].vms[s.VM] = p
	for _, v := range volumesOf(s) {
		w.volumes[v] = &volume{owner: host, epoch: 1}
	}
	w.run(host, p)
}

func volumesOf(s model.Shape) []string {
	var names []string
	for _, d := range s.Disks {
		if d.Source.Volume != nil {
			names = append(names, d.Source.Volume.Name)
		}
	}
	return names
}

// run gives a process its next instruction, and notes when that must not be.
func (w *World) run(host string, p *process) {
	if p.state == hypervisor.Running {
		return
	}
	vm := p.shape.VM
	for name, h := range w.hosts {
		if o := h.vms[vm]; o != nil && o != p && o.state == hypervisor.Running {
			w.violation("%s runs on %s and %s", vm, name, host)
		}
	}
	g := w.guests[vm]
	if p.life != g.life {
		w.violation("%s runs on %s from a state after which it has run elsewhere", vm, host)
	}
	g.life = max(g.life, p.life) + 1
	p.life, p.state = g.life, hypervisor.Running
	for _, v := range volumesOf(p.shape) {
		if w.volumes[v].owner != host {
			// werror=stop: the guest's first write is refused and it stops until someone continues it.
			p.state = hypervisor.Failed
			w.event(host, vm, "BLOCK_IO_ERROR", v)
			return
		}
	}
	w.event(host, vm, "RESUME", "")
}

func (w *World) stop(host string, p *process, s hypervisor.State) {
	if p.state == hypervisor.Running {
		w.event(host, p.shape.VM, "STOP", "")
	}
	p.state = s
}

func (w *World) violation(format string, args ...any) {
	w.wrong = append(w.wrong, fmt.Sprintf(format, args...))
}

// note appends to the history.
func (w *World) note(what string) {
	m := Moment{What: what, Running: map[string][]string{}}
	for _, name := range slices.Sorted(maps.Keys(w.hosts)) {
		for vm, p := range w.hosts[name].vms {
			if p.state == hypervisor.Running {
				m.Running[vm] = append(m.Running[vm], name)
			}
		}
	}
	w.log = append(w.log, m)
	w.notify()
}

func (w *World) notify() {
	close(w.changed)
	w.changed = make(chan struct{})
}

// Violations lists what must never happen and did: two runners, a guest that ran on from a past state, one that was ended
// by the manager without another copy.
func (w *World) Violations() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.wrong)
}

// History is who ran after each call.
func (w *World) History() []Moment {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.log)
}

// Runner is the host on which a VM runs, "" when it does nowhere.
func (w *World) Runner(vm string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	for name, h := range w.hosts {
		if p := h.vms[vm]; p != nil && p.state == hypervisor.Running {
			return name
		}
	}
	return ""
}

// Hosts with a process of a VM in any state, sorted.
func (w *World) Hosts(vm string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var names []string
	for _, name := range slices.Sorted(maps.Keys(w.hosts)) {
		if w.hosts[name].vms[vm] != nil {
			names = append(names, name)
		}
	}
	return names
}

// Shape of a VM on a host.
func (w *World) Shape(host, vm string) (model.Shape, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.hosts[host].vms[vm]
	if p == nil {
		return model.Shape{}, false
	}
	return p.shape, true
}

// Owner of a volume.
func (w *World) Owner(volume string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.volumes[volume].owner
}

// Handover gives a volume to another host, as the gateway does (invariant S15). It is a call like those of a Port, on
// the host that gives the volume away.
func (w *World) Handover(ctx context.Context, name, from, to string) (epoch uint64, err error) {
	w.mu.Lock()
	manager := w.manager
	w.mu.Unlock()
	err = w.call(ctx, manager, from, "Handover", name, func() error {
		v := w.volumes[name]
		switch {
		case v == nil:
			return fmt.Errorf("hand over volume %s: there is none", name)
		case v.owner == to:
		case v.owner != from:
			return fmt.Errorf("hand over volume %s: it belongs to %s, not to %s", name, v.owner, from)
		default:
			v.owner, v.epoch = to, v.epoch+1
		}
		epoch = v.epoch
		return nil
	})
	return epoch, err
}

// call carries out one call with the fault that is due.
func (w *World) call(ctx context.Context, manager int, host, name, vm string, do func() error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if manager != w.manager {
		return ErrCrashed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	c := Call{N: w.calls, Host: host, Name: name, VM: vm}
	w.calls++
	var f Fault
	if w.fault != nil {
		f = w.fault(c)
	}
	defer func() { w.note(c.String()) }()
	switch f {
	case FailBefore:
		return fmt.Errorf("%s: %w", c, ErrInjected)
	case CrashBefore:
		w.crash()
		return ErrCrashed
	case Stall:
		w.mu.Unlock()
		<-ctx.Done()
		w.mu.Lock()
		return ctx.Err()
	case KillHere:
		w.kill(host, vm)
	case KillThere:
		for other := range w.hosts {
			if other != host {
				w.kill(other, vm)
			}
		}
	case HostAway:
		w.hosts[host].away = true
	}
	if w.hosts[host].away {
		return fmt.Errorf("%s: %w", host, ErrAway)
	}
	err := do()
	switch f {
	case FailAfter:
		return fmt.Errorf("%s: %w", c, ErrInjected)
	case CrashAfter:
		w.crash()
		return ErrCrashed
	case RunOn:
		if v := w.hosts[host].vms[vm]; err == nil && name == "Transfer.Complete" && v.whole && v.state == hypervisor.Moved {
			w.run(host, v)
			return fmt.Errorf("%s: %w", c, ErrInjected)
		}
	}
	return err
}

// await holds a call until done answers true or an error; done is called with the World locked.
func (w *World) await(ctx context.Context, manager int, host string, done func() (bool, error)) error {
	for {
		w.mu.Lock()
		changed := w.changed
		crashed, away := manager != w.manager, w.hosts[host].away
		ok, err := done()
		w.mu.Unlock()
		switch {
		case crashed:
			return ErrCrashed
		case away:
			return fmt.Errorf("%s: %w", host, ErrAway)
		case ok || err != nil:
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// event tells all Ports of a host.
func (w *World) event(host, vm, name, detail string) {
	e := hypervisor.Event{Time: time.Unix(0, 0).Add(w.now), VM: vm, Name: name, Detail: detail}
	for _, p := range w.ports {
		if p.name == host && p.manager == w.manager {
			p.tell(e)
		}
	}
}
