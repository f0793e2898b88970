package trial

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/plugins/migration/agent"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/qmp"
	"github.com/ratchetos/ratchet/plugins/migration/model"
	"github.com/ratchetos/ratchet/plugins/migration/plan"
	"github.com/ratchetos/ratchet/plugins/migration/run"
	"github.com/ratchetos/ratchet/plugins/migration/run/journal"
	"github.com/ratchetos/ratchet/qemu/lab"
)

// VM is the name of the guest, serial that of its disk.
const (
	VM     = "vm1"
	serial = "trial"
)

// Hosts of a rig.
const (
	Alpha = "alpha"
	Beta  = "beta"
)

// Options of a rig; the zero value is a guest without a disk.
type Options struct {
	// Disk gives the guest a disk on a gateway.
	Disk bool
	// Transcript gets every line of every monitor.
	Transcript func(vm string, sent bool, line []byte)
	Policy     run.Policy
}

// Rig is hosts, a gateway and a guest.
type Rig struct {
	Lab     *lab.Lab
	Gateway *Gateway // nil without a disk
	Guest   *lab.Guest
	// On is the host that the guest is on.
	On string

	o     Options
	hosts map[string]*lab.Host
	dir   string
	moves int
	lives int    // of guests
	epoch uint64 // of the last manager
}

// Open starts a rig with its guest on Alpha.
func Open(ctx context.Context, o Options) (r *Rig, err error) {
	r = &Rig{o: o, hosts: map[string]*lab.Host{}}
	if r.Lab, err = lab.Open(ctx); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			r.Close()
		}
	}()
	tokens := map[string]string{}
	if o.Disk {
		if r.Gateway, err = StartGateway(ctx, r.Lab.Dir, Alpha, Beta); err != nil {
			return nil, err
		}
		tokens = r.Gateway.Secrets
	}
	for _, name := range []string{Alpha, Beta} {
		ho := lab.HostOptions{Transcript: o.Transcript}
		if o.Disk {
			ho.Tokens = map[string]string{Volume: tokens[name]}
		}
		if r.hosts[name], err = r.Lab.Host(ctx, name, ho); err != nil {
			return nil, err
		}
	}
	return r, r.Renew(ctx)
}

// Close ends everything.
func (r *Rig) Close() {
	r.Lab.Close()
	if r.Gateway != nil {
		r.Gateway.Close()
	}
}

// Renew starts a new guest on Alpha; the one before is gone.
func (r *Rig) Renew(ctx context.Context) (err error) {
	// A manager that left a move half done is forgotten, as is the move.
	r.lives++
	r.dir = filepath.Join(r.Lab.Dir, fmt.Sprint("manager-", r.lives))
	if err := os.MkdirAll(r.dir, 0o755); err != nil {
		return err
	}
	for _, h := range r.hosts {
		if _, err := h.PID(VM); err == nil {
			if err := h.Kill(VM); err != nil && !errors.Is(err, unix.ESRCH) {
				return err
			}
		}
	}
	shape := r.Lab.Image.Shape(VM)
	if r.Gateway != nil {
		shape.Disks = []model.Disk{{
			ID: "disk0", Model: "virtio-blk-pci", Serial: serial, Size: VolumeSize, Bus: "pci.0", Addr: "0x4",
			Source: model.Source{Volume: &model.Volume{Name: Volume, Server: r.Gateway.Server}},
		}}
		for _, to := range []string{Beta, Alpha} { // whoever had it
			if _, err := r.Gateway.Handover(ctx, Volume, other(to), to); err != nil {
				return err
			}
		}
	}
	if r.Guest, err = r.Lab.GuestOf(shape); err != nil {
		return err
	}
	r.On = Alpha
	return r.hosts[Alpha].Restore(ctx, r.Guest)
}

// Port connects to a host.
func (r *Rig) Port(ctx context.Context, name string, epoch uint64) (*qmp.Port, error) {
	h := r.hosts[name]
	config, err := h.ClientTLS(ctx)
	if err != nil {
		return nil, err
	}
	return qmp.DialVMHost(ctx, qmp.VMHost{
		Name: name, Address: h.Address, TLS: config, Epoch: epoch,
		Peers: func(ctx context.Context, host string) (hypervisor.Port, error) { return r.peer(ctx, host, epoch) },
	})
}

// peer is a connection that ends with the lab.
func (r *Rig) peer(ctx context.Context, name string, epoch uint64) (hypervisor.Port, error) {
	p, err := r.Port(ctx, name, epoch)
	if err != nil {
		return nil, err
	}
	r.Lab.OnClose(func() { p.Close() })
	return p, nil
}

func dialAgent(p hypervisor.Port) *agent.Remote {
	return agent.New(func(ctx context.Context) (net.Conn, error) { return p.Channel(ctx, VM) }, agent.Options{})
}

// Manager is a runner on the rig.
type Manager struct {
	*run.Runner
	r     *Rig
	f     *fault
	m     *manager
	ports map[string]*qmp.Port
	woken chan struct{}
}

// Manage opens a runner; f may be nil.
func (r *Rig) Manage(ctx context.Context, f *fault) (_ *Manager, err error) {
	if f == nil {
		f = &fault{kind: None}
	}
	f.kill = func(host string) { _ = r.hosts[host].Kill(VM) } // one that is gone is dead enough
	m := &Manager{r: r, f: f, m: newManager(), ports: map[string]*qmp.Port{}, woken: make(chan struct{}, 1)}
	r.epoch++ // as the journal will have it
	ports := map[string]hypervisor.Port{}
	for name := range r.hosts {
		if m.ports[name], err = r.Port(ctx, name, r.epoch); err != nil {
			return nil, err
		}
		ports[name] = &port{Port: m.ports[name], host: name, m: m.m, f: f}
	}
	o := run.Options{
		Ports: func(host string) (hypervisor.Port, error) { return ports[host], nil },
		Epoch: r.epoch - 1,
		Disk:  disk{journal.Dir(r.dir), m.m, f}, Policy: r.o.Policy,
		Changed: func() {
			select {
			case m.woken <- struct{}{}:
			default:
			}
		},
	}
	if r.Gateway != nil {
		o.Volumes = volumes{r.Gateway, m.m}
	}
	if m.Runner, err = run.Open(o); err == nil {
		r.epoch = m.Epoch()
	}
	return m, err
}

// volumes are handed over for a manager, until it crashes.
type volumes struct {
	run.Volumes
	m *manager
}

func (v volumes) Handover(ctx context.Context, volume, from, to string) (epoch uint64, err error) {
	err = v.m.order(ctx, func(ctx context.Context) (err error) {
		epoch, err = v.Volumes.Handover(ctx, volume, from, to)
		return err
	})
	return epoch, err
}

// Close ends the manager; hosts and moves are left as they are.
func (m *Manager) Close() {
	m.Runner.Close()
	for _, p := range m.ports {
		p.Close()
	}
}

// Settled waits until a move ends, is held, or its manager has crashed.
func (m *Manager) Settled(ctx context.Context, id string) (run.Status, error) {
	for {
		s, _ := m.Move(id)
		if s.Ends() || m.m.crashed.Load() {
			return s, nil
		}
		select {
		case <-m.woken:
		case <-m.m.ctx.Done():
		case <-ctx.Done():
			return s, fmt.Errorf("move %s, %s, %s: %w", id, s.Phase, s.Doing, context.Cause(ctx))
		}
	}
}

func other(host string) string {
	if host == Alpha {
		return Beta
	}
	return Alpha
}

// Shape is the guest as its host describes it.
func (r *Rig) Shape(ctx context.Context) (model.Shape, error) {
	p, err := r.Port(ctx, r.On, max(1, r.epoch))
	if err != nil {
		return model.Shape{}, err
	}
	defer p.Close()
	return p.Describe(ctx, VM)
}

// Plan plans a move of the guest to the other host.
func (r *Rig) Plan(ctx context.Context, ty model.VMType, goal model.Goal) (p plan.Plan, err error) {
	to := other(r.On)
	source, err := r.Port(ctx, r.On, max(1, r.epoch))
	if err != nil {
		return p, err
	}
	defer source.Close()
	target, err := r.Port(ctx, to, max(1, r.epoch))
	if err != nil {
		return p, err
	}
	defer target.Close()
	r.moves++
	in := plan.Input{ID: fmt.Sprintf("move-%d-%d", os.Getpid(), r.moves), Type: ty, Goal: goal, Volumes: map[string]uint64{Volume: VolumeSize}}
	if in.Shape, err = source.Describe(ctx, VM); err != nil {
		return p, err
	}
	if in.Source, err = source.Capabilities(ctx); err != nil {
		return p, err
	}
	if in.Target, err = target.Capabilities(ctx); err != nil {
		return p, err
	}
	in.Source.Name, in.Target.Name = r.On, to
	agent := dialAgent(source)
	defer agent.Close()
	report, err := agent.Report(ctx)
	if err != nil {
		return p, err
	}
	in.Guest = &report
	p, refusals := plan.Make(in)
	var all []error
	for _, refusal := range refusals {
		all = append(all, errors.New(refusal.String()))
	}
	return p, errors.Join(all...)
}

// Result of a move.
type Result struct {
	run.Status
	Plan plan.Plan
	// Silence is the longest that the guest's peers saw, Switch that around the switch, which is the gap, and Missing how many
	// heartbeats never came. The start of dirty logging is silent, too: under emulation some 80 ms.
	Silence, Switch time.Duration
	Missing         int
	// Total is from the order to the end.
	Total time.Duration
}

// Move carries a plan out, with the fault that meets it, and as many managers as it takes.
func (r *Rig) Move(ctx context.Context, p plan.Plan, f *fault) (res Result, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*soon, errors.New("the move takes too long"))
	defer cancel()
	res.Plan = p
	m, err := r.Manage(ctx, f)
	if err != nil {
		return res, err
	}
	begun := time.Now()
	started := m.Start(p)
	for range 4 {
		if started == nil || m.m.crashed.Load() {
			if res.Status, err = m.Settled(ctx, p.ID); err != nil {
				m.m.crash()
				m.Close()
				return res, err
			}
		}
		crashed := m.m.crashed.Load()
		if !crashed && !res.Held {
			break
		}
		if crashed {
			m.Close()
			if m, err = r.Manage(ctx, m.f); err != nil {
				return res, err
			}
			m.Resume()
			started = nil
			if _, known := m.Move(p.ID); !known {
				started = m.Start(p) // it crashed before the plan was kept
			}
		} else if err := m.Retry(p.ID); err != nil {
			break
		}
	}
	res.Total = time.Since(begun)
	m.Close()
	if m.f != nil {
		m.f.close()
	}
	if started != nil {
		return res, started
	}
	switch res.Outcome {
	case run.Moved, run.Partly:
		r.On = p.To
	}
	if res.Outcome != run.Lost && !res.Held {
		if err := r.Guest.Beating(ctx); err != nil {
			return res, err
		}
	}
	res.Silence, res.Missing = r.Guest.Beats.Gap(begun, time.Now())
	res.Switch = r.Guest.Beats.Around(r.Guest.Runners.Latest())
	return res, nil
}

// Proof holds the guest and the hosts against what must be: nobody ran twice, and nothing that was written is lost.
func (r *Rig) Proof(ctx context.Context, lost bool) error {
	ctx, cancel := context.WithTimeout(ctx, soon)
	defer cancel()
	errs := []error{r.Guest.Runners.Err()}
	if twins := r.Guest.Beats.Twins(); len(twins) > 0 {
		errs = append(errs, fmt.Errorf("heartbeats %v came twice", twins))
	}
	if r.Gateway != nil {
		errs = append(errs, r.Gateway.OneWriter(ctx))
	}
	if !lost {
		_, err := r.Guest.VerifyMemory(ctx)
		errs = append(errs, err)
		if r.Gateway != nil {
			_, err := r.Guest.VerifyDisk(ctx)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
