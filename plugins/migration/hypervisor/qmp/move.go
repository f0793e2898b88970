package qmp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/model"
	"github.com/ratchetos/ratchet/plugins/migration/vmhost/client"
)

// as sends what is done with ctx under the epoch of the move, which is kept if it is the highest.
func (p *Port) as(ctx context.Context, m hypervisor.Move) context.Context {
	p.client.SetEpoch(m.Epoch)
	return client.WithEpoch(ctx, m.Epoch)
}

// Begin implements hypervisor.Port. The shape that the destination shall have is held against the one the VM has: QEMU
// would find out too late, or not at all.
func (p *Port) Begin(ctx context.Context, m hypervisor.Move) (hypervisor.Ticket, error) {
	ctx = p.as(ctx, m)
	v, err := p.find(ctx, m.VM)
	if err == nil && v == nil {
		err = hypervisor.ErrNoSuchVM
	}
	if err == nil {
		// Nothing is done by it; it is the order that an older manager is refused at.
		err = p.do(ctx, m.VM, "query-status", nil, nil)
	}
	if err != nil {
		return hypervisor.Ticket{}, fmt.Errorf("begin move of %s on %s: %w", m.VM, p.conf.Name, err)
	}
	if v.Move != "" || v.State == hypervisor.Moved || v.State == hypervisor.Incoming {
		return hypervisor.Ticket{}, fmt.Errorf("begin move of %s on %s: it is %s there", m.VM, p.conf.Name, v.State)
	}
	is, err := p.Describe(ctx, m.VM)
	if err != nil {
		return hypervisor.Ticket{}, err
	}
	if board(is) != board(m.Shape) {
		return hypervisor.Ticket{}, fmt.Errorf("begin move of %s on %s: it has changed since the move was planned: plan again", m.VM, p.conf.Name)
	}
	return hypervisor.Ticket{Shape: m.Shape}, nil
}

// board identifies what both sides must have in common to the letter: all but the CPU, which a plan may change to one that
// has been checked, and where disks are.
func board(s model.Shape) string {
	s.CPU = model.CPU{}
	s.Disks = append([]model.Disk(nil), s.Disks...)
	for i := range s.Disks {
		s.Disks[i].Source = model.Source{}
	}
	return s.Digest()
}

// Prepare implements hypervisor.Port. A destination of an earlier try at the same move makes way.
func (p *Port) Prepare(ctx context.Context, m hypervisor.Move, t hypervisor.Ticket) (hypervisor.Arrival, error) {
	ctx = p.as(ctx, m)
	fail := func(err error) (hypervisor.Arrival, error) {
		return hypervisor.Arrival{}, fmt.Errorf("prepare %s for %s: %w", p.conf.Name, m.VM, err)
	}
	if t.Shape.Digest() != m.Shape.Digest() {
		return fail(errors.New("the source's ticket is for another shape than the move"))
	}
	info, err := p.client.Host(ctx)
	if err != nil {
		return fail(err)
	}
	if err := p.client.End(ctx, m.VM, m.ID); err != nil {
		return fail(err)
	}
	if err := p.client.Start(ctx, client.Start{Shape: m.Shape, Move: m.ID}); err != nil {
		return fail(err)
	}
	a, err := p.arrive(ctx, m, info)
	if err != nil {
		return fail(errors.Join(err, p.client.End(context.WithoutCancel(ctx), m.VM, m.ID)))
	}
	return a, nil
}

// arrive makes a fresh destination listen.
func (p *Port) arrive(ctx context.Context, m hypervisor.Move, info client.Host) (a hypervisor.Arrival, err error) {
	// Post-copy is the source's choice, which it makes after this; being ready for it changes nothing.
	var more []string
	if info.PostCopy {
		more = append(more, "postcopy-ram")
	}
	if err := p.capabilities(ctx, m.VM, more...); err != nil {
		return a, err
	}
	params, err := p.credentials(ctx, m, info, true)
	if err != nil {
		return a, err
	}
	if err := p.do(ctx, m.VM, "migrate-set-parameters", params, nil); err != nil {
		return a, err
	}
	if err := p.do(ctx, m.VM, "migrate-incoming", map[string]any{"uri": listenOn(info)}, nil); err != nil {
		return a, err
	}
	if a.Address, err = p.listensAt(ctx, m.VM, info); err != nil {
		return a, err
	}
	a.Disks, err = p.exportDisks(ctx, m, info)
	return a, err
}

// listenOn makes QEMU choose one of the host's ports.
func listenOn(info client.Host) string {
	return "tcp:" + info.Address + ":" + strconv.Itoa(info.FirstPort) + ",to=" + strconv.Itoa(info.LastPort)
}

// listensAt is where it did.
func (p *Port) listensAt(ctx context.Context, vm string, info client.Host) (string, error) {
	is, err := p.migration(ctx, vm)
	if err == nil && (len(is.Listening) == 0 || is.Listening[0].Port == "") {
		err = errors.New("QEMU does not say where it listens")
	}
	if err != nil {
		return "", err
	}
	return "tcp:" + net.JoinHostPort(strings.Trim(info.Address, "[]"), is.Listening[0].Port), nil
}

// Finish implements hypervisor.Port.
func (p *Port) Finish(ctx context.Context, m hypervisor.Move, moved bool) error {
	ctx = p.as(ctx, m)
	if !moved {
		return p.client.End(ctx, m.VM, m.ID)
	}
	fail := func(err error) error { return fmt.Errorf("let %s run on %s: %w", m.VM, p.conf.Name, err) }
	s, err := p.Status(ctx, m.VM)
	switch {
	case err != nil:
		return fail(err)
	case s == hypervisor.Absent:
		return fail(hypervisor.ErrNoSuchVM)
	case s != hypervisor.Running && s != hypervisor.Paused && s != hypervisor.Failed:
		// An early cont is lost, and the guest would stay as it is.
		return fail(fmt.Errorf("it is %s: its memory is not all there", s))
	}
	// From here on nothing that discards destinations reaches it. One of another move is refused.
	if err := p.client.Settle(ctx, m.VM, m.ID); err != nil {
		return fail(err)
	}
	// Nobody else writes its disks from now on.
	if err := p.stopExports(ctx, m); err != nil {
		return fail(err)
	}
	if s == hypervisor.Running {
		return nil
	}
	if err := p.letRun(ctx, m.VM); err != nil {
		return fail(err)
	}
	return nil
}

// cont lets a VM run, and sees that it does.
func (p *Port) cont(ctx context.Context, vm string) error {
	s, _, err := Status(ctx, p.monitor(vm))
	if err != nil || s == hypervisor.Running {
		return err
	}
	return p.letRun(ctx, vm)
}

// letRun is cont for a VM that stands still. Once QEMU has taken that, the VM may have run: that it is gone is then not told
// as hypervisor.ErrNoSuchVM, by which the caller would take it for one that never did.
func (p *Port) letRun(ctx context.Context, vm string) error {
	if err := p.do(ctx, vm, "cont", nil, nil); err != nil {
		return err
	}
	return p.await(ctx, func() (bool, error) {
		s, detail, err := Status(ctx, p.monitor(vm))
		switch {
		case s == hypervisor.Failed:
			err = fmt.Errorf("it stopped again with %s", detail)
		case errors.Is(err, hypervisor.ErrNoSuchVM):
			err = errors.New("it ended as soon as it was let run")
		}
		return s == hypervisor.Running, err
	})
}

// Confirm implements hypervisor.Port.
func (p *Port) Confirm(ctx context.Context, m hypervisor.Move, moved bool) error {
	ctx = p.as(ctx, m)
	what := "resume"
	if moved {
		what = "end"
	}
	v, err := p.find(ctx, m.VM)
	switch {
	case err != nil:
	case v == nil && moved:
		return nil
	case v == nil:
		err = hypervisor.ErrNoSuchVM
	case v.Move != "":
		err = fmt.Errorf("it is the destination of move %s there", v.Move)
	case moved && v.State == hypervisor.Unknown:
		// It does not answer. What it holds of its guest is of no use if that runs where it has gone.
		if err = p.runsAt(ctx, m); err == nil {
			return p.client.End(ctx, m.VM, "")
		}
	case moved && v.State != hypervisor.Moved:
		err = fmt.Errorf("it is %s, it has not moved away", v.State)
	case moved:
		return p.client.End(ctx, m.VM, "")
	default:
		err = p.resume(ctx, m.VM)
	}
	if err != nil {
		return fmt.Errorf("%s %s on %s: %w", what, m.VM, p.conf.Name, err)
	}
	return nil
}

// runsAt is nil if the VM runs at the destination.
func (p *Port) runsAt(ctx context.Context, m hypervisor.Move) error {
	if p.conf.Peers == nil {
		return errors.New("its monitor does not answer")
	}
	peer, err := p.conf.Peers(ctx, m.To)
	if err != nil {
		return err
	}
	s, err := peer.Status(ctx, m.VM)
	if err == nil && s != hypervisor.Running {
		err = fmt.Errorf("its monitor does not answer, and on %s it is %s", m.To, s)
	}
	return err
}

// resume takes a source back: a transfer that is under way is cancelled, mirrors end, and the VM runs.
func (p *Port) resume(ctx context.Context, vm string) error {
	is, deaf, err := p.glimpse(ctx, vm)
	if err != nil {
		return err
	}
	if is.phase() == "post-copy" {
		return errors.New("it is being moved by post-copy, from which there is no way back")
	}
	if deaf || is.under() { // the agent knows whether a deaf one is in a post-copy
		if err := p.cancelTransfer(ctx, vm); err != nil {
			return err
		}
	}
	if err := p.dropMirrors(ctx, vm); err != nil {
		return err
	}
	return p.cont(ctx, vm)
}

// cancelTransfer returns when the source has settled. A cancel that comes in the moment before QEMU (7.2, migration_maybe_pause)
// pauses for the switch leaves it pausing: it looks whether it was cancelled, lets go of its lock, and waits for a word that
// the cancel has not given since there was nothing to wait for yet. migrate-continue gives it; one who does not wait for it does
// not mind.
func (p *Port) cancelTransfer(ctx context.Context, vm string) error {
	if err := p.do(ctx, vm, "migrate_cancel", nil, nil); err != nil {
		return err
	}
	return p.await(ctx, func() (bool, error) {
		is, err := p.migration(ctx, vm)
		if err == nil && is.Status == "cancelling" {
			// An error is that of one that has just ended: the next look tells.
			_ = p.do(ctx, vm, "migrate-continue", map[string]any{"state": is.Status}, nil)
		}
		return !is.under(), err
	})
}
