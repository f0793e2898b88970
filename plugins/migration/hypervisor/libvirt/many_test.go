package libvirt

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
)

// TestManyMoves: VMs of one wave move through the same two daemons, and are called back at moments spread over a transfer.
// Now and then one of them meets libvirt where it waits for what has passed; see unstick.
func TestManyMoves(t *testing.T) {
	long(t)
	t.Parallel()
	const wave, tries = 3, 2
	var all sync.WaitGroup
	for i := range wave {
		s := vm(t)
		s.VM = fmt.Sprintf("%s-%d", s.VM, i)
		x := try(t, s)
		all.Go(func() {
			for k := range tries {
				x.move.ID = fmt.Sprintf("m%d-%d", i, k)
				if err := x.callBack(time.Duration(i+wave*k) * 25 * time.Millisecond); err != nil {
					t.Errorf("%s: %v", x.move.ID, err)
					return
				}
			}
			if err := x.whole(); err != nil {
				t.Errorf("move %s: %v", s.VM, err)
			}
		})
	}
	all.Wait()
}

// callBack begins a move, cancels it some time after the order to send, and looks whether all is as before.
func (t *trial) callBack(after time.Duration) error {
	x, err := t.send()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(t.ctx, after)
	_ = x.Switchover(ctx) // whether it came so far or not
	cancel()
	ctx, cancel = context.WithTimeout(t.ctx, 15*time.Second)
	defer cancel()
	if err := x.Cancel(ctx); err != nil {
		return err
	}
	for i, want := range []hypervisor.State{hypervisor.Running, hypervisor.Absent} {
		got, err := t.ports[i].Status(ctx, t.move.VM)
		if err != nil {
			return err
		}
		if got != want {
			return fmt.Errorf("cancelled, the VM is %s at %s, want %s", got, t.ports[i].conf.Name, want)
		}
	}
	return nil
}

// whole is a move to its end.
func (t *trial) whole() error {
	x, err := t.send()
	if err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{
		x.Switchover, x.Complete,
		func(ctx context.Context) error { return t.ports[1].Finish(ctx, t.move, true) },
		func(ctx context.Context) error { return t.ports[0].Confirm(ctx, t.move, true) },
	} {
		if err := step(t.ctx); err != nil {
			return err
		}
	}
	return nil
}

// send is perform for other goroutines than the test's.
func (t *trial) send() (hypervisor.Transfer, error) {
	ticket, err := t.ports[0].Begin(t.ctx, t.move)
	if err != nil {
		return nil, err
	}
	a, err := t.ports[1].Prepare(t.ctx, t.move, ticket)
	if err != nil {
		return nil, err
	}
	return t.ports[0].Perform(t.ctx, t.move, a, hypervisor.Options{})
}

// TestUnstick: a guest is stopped for a daemon that waits for it only when QEMU itself is done with the transfer.
func TestUnstick(t *testing.T) {
	long(t)
	t.Parallel()
	x := try(t, vm(t))
	p := x.ports[0]
	dom, err := p.active(x.ctx, x.move.VM)
	x.ok("look up", err)
	unstick := func(when string, want bool) {
		t.Helper()
		if got, err := p.unstick(x.ctx, dom); err != nil || got != want {
			t.Errorf("%s: stopped: %v (%v), want %v", when, got, err, want)
		}
	}
	unstick("never moved", false)
	transfer, err := x.perform(hypervisor.Options{Limits: hypervisor.Limits{Bandwidth: 1 << 20}})
	x.ok("perform", err)
	unstick("on its way", false)
	x.ok("cancel", transfer.Cancel(x.ctx))
	unstick("cancelled", true)
	x.state(0, hypervisor.Paused)
	unstick("stopped, with the word of its end lost", true)
	x.state(0, hypervisor.Paused)
	x.ok("resume", p.Confirm(x.ctx, x.move, false))
	x.state(0, hypervisor.Running)
}

// TestManagerDies: a transfer whose manager is gone is ended by the next, which can begin another at once.
func TestManagerDies(t *testing.T) {
	long(t)
	t.Parallel()
	x := try(t, vm(t))
	_, err := x.perform(hypervisor.Options{Limits: hypervisor.Limits{Bandwidth: 1 << 20}})
	x.ok("perform", err)
	for _, p := range x.ports {
		p.Close()
	}
	x.ports = x.hosts.ports(t)
	x.move.Epoch++
	x.ok("resume", x.ports[0].Confirm(x.ctx, x.move, false))
	x.ok("discard", x.ports[1].Finish(x.ctx, x.move, false))
	x.state(0, hypervisor.Running)
	x.complete(hypervisor.Options{})
}
