package hypervisortest

import (
	"context"
	"errors"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/model"
)

// Rig is two hosts of one kind with a VM that runs on the first, as Suite wants them.
type Rig struct {
	Source, Target hypervisor.Port
	// SourceName and TargetName are the hosts' names.
	SourceName, TargetName string
	// Shape of the VM.
	Shape model.Shape
	// KillTarget ends the VM's process on the target, if there is one, as a crash of the hypervisor would.
	KillTarget func()
	// Reopen connects to both hosts anew, as the next manager does. The old ports are of no use then.
	Reopen func(t *testing.T) (source, target hypervisor.Port)
	// Plugs are devices that can be plugged and that the guest lets go of.
	Plugs []hypervisor.Plug
	// PostCopy tells that the hosts can do it.
	PostCopy bool
	// Options of each transfer.
	Options hypervisor.Options
	// Agent tells that Channel reaches something.
	Agent bool
	// Epoch is the manager's; 5 when 0.
	Epoch uint64
	// Fences tells that the hosts themselves refuse an older manager.
	Fences bool
}

// callLimit bounds one call of a suite: far more than any takes.
const callLimit = 30 * time.Second

type trial struct {
	*testing.T
	Rig
	ctx  context.Context
	move hypervisor.Move
}

// Suite runs what every Port promises. setup makes a fresh rig for each case; one whose rigs do not meet may call t.Parallel.
func Suite(t *testing.T, setup func(t *testing.T) Rig) {
	for _, c := range []struct {
		name string
		run  func(t *trial)
	}{
		{"Look", look},
		{"Move", wholeMove},
		{"UndoEverywhere", undoEverywhere},
		{"TargetDies", targetDies},
		{"NextManager", nextManager},
		{"Refusals", refusals},
		{"Fence", fence},
		{"Plug", plug},
		{"PostCopy", postCopyMove},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := setup(t)
			ctx, cancel := context.WithTimeout(t.Context(), 4*callLimit)
			defer cancel()
			if r.Epoch == 0 {
				r.Epoch = 5
			}
			c.run(&trial{T: t, Rig: r, ctx: ctx, move: hypervisor.Move{
				ID: "m1", Epoch: r.Epoch, VM: r.Shape.VM, Shape: r.Shape, From: r.SourceName, To: r.TargetName,
			}})
		})
	}
}

func (t *trial) ok(what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

func (t *trial) refused(what string, err, want error) {
	t.Helper()
	if err == nil || want != nil && !errors.Is(err, want) {
		t.Errorf("%s: %v, want a refusal (%v)", what, err, want)
	}
}

func (t *trial) states(when string, source, target hypervisor.State) {
	t.Helper()
	for _, s := range []struct {
		side string
		port hypervisor.Port
		want hypervisor.State
	}{{"source", t.Source, source}, {"target", t.Target, target}} {
		got, err := s.port.Status(t.ctx, t.move.VM)
		if err != nil || got != s.want {
			t.Fatalf("%s: the VM is %s at the %s, want %s (%v)", when, got, s.side, s.want, err)
		}
	}
}

// begin goes as far as the transfer.
func (t *trial) begin(o hypervisor.Options) hypervisor.Transfer {
	t.Helper()
	ticket, err := t.Source.Begin(t.ctx, t.move)
	t.ok("begin", err)
	arrival, err := t.Target.Prepare(t.ctx, t.move, ticket)
	t.ok("prepare", err)
	x, err := t.Source.Perform(t.ctx, t.move, arrival, o)
	t.ok("perform", err)
	return x
}

func look(t *trial) {
	h, err := t.Source.Capabilities(t.ctx)
	t.ok("capabilities", err)
	if h.Name != t.SourceName || h.Hypervisor == "" || len(h.Accels) == 0 || h.MaxVCPUs == 0 {
		t.Errorf("capabilities say too little: %+v", h)
	}
	if !slices.Contains(h.Machines, t.Shape.Machine) {
		t.Errorf("the board %s of the VM is not among those of the host: %v", t.Shape.Machine, h.Machines)
	}
	s, err := t.Source.Describe(t.ctx, t.move.VM)
	t.ok("describe", err)
	if s.Machine != t.Shape.Machine || s.VCPUs != t.Shape.VCPUs || s.Memory.Boot != t.Shape.Memory.Boot || len(s.NICs) != len(t.Shape.NICs) {
		t.Errorf("described as %+v, want %+v", s, t.Shape)
	}
	list, err := t.Source.List(t.ctx)
	t.ok("list", err)
	i := slices.IndexFunc(list, func(vm hypervisor.VM) bool { return vm.Name == t.move.VM })
	if i < 0 || list[i].State != hypervisor.Running {
		t.Errorf("list: %+v", list)
	}
	if w, ok := t.Source.(hypervisor.Watched); ok {
		l, err := w.Load(t.ctx)
		t.ok("load", err)
		if l.CPUs <= 0 || l.Busy <= 0 || l.Available == 0 || l.Available > l.Memory {
			t.Errorf("the load says too little: %+v", l)
		}
	}
	t.states("before all", hypervisor.Running, hypervisor.Absent)
	_, err = t.Target.Describe(t.ctx, t.move.VM)
	t.refused("describe a VM that is not there", err, hypervisor.ErrNoSuchVM)
	if t.Agent {
		c, err := t.Source.Channel(t.ctx, t.move.VM)
		t.ok("channel", err)
		c.Close()
	}
}

func wholeMove(t *trial) {
	x := t.begin(t.Options)
	t.ok("switch over", x.Switchover(t.ctx))
	t.states("at the switch", hypervisor.Moving, hypervisor.Incoming)
	t.ok("complete", x.Complete(t.ctx))
	t.states("before the first instruction", hypervisor.Moved, hypervisor.Paused)
	for range 2 {
		t.ok("finish", t.Target.Finish(t.ctx, t.move, true))
		t.states("after the commit", hypervisor.Moved, hypervisor.Running)
	}
	for range 2 {
		t.ok("confirm", t.Source.Confirm(t.ctx, t.move, true))
		t.states("in the end", hypervisor.Absent, hypervisor.Running)
	}
	p, err := x.Progress(t.ctx)
	t.ok("progress", err)
	if p.Phase != completed || p.Transferred == 0 || p.Total == 0 {
		t.Errorf("progress of a move that is done: %+v", p)
	}
	// The way back is a move like any other.
	t.Source, t.Target = t.Target, t.Source
	t.move.ID, t.move.From, t.move.To = "m2", t.TargetName, t.SourceName
	x = t.begin(t.Options)
	t.ok("switch back", x.Switchover(t.ctx))
	t.ok("complete back", x.Complete(t.ctx))
	t.ok("finish back", t.Target.Finish(t.ctx, t.move, true))
	t.ok("confirm back", t.Source.Confirm(t.ctx, t.move, true))
	t.states("back again", hypervisor.Absent, hypervisor.Running)
}

// undoEverywhere takes a move back from each point before commit, one after the other: nothing of a try may be in the way
// of the next.
func undoEverywhere(t *trial) {
	undo := func(point string) {
		t.Helper()
		t.ok("discard after "+point, t.Target.Finish(t.ctx, t.move, false))
		t.ok("resume after "+point, t.Source.Confirm(t.ctx, t.move, false))
		t.states("undone after "+point, hypervisor.Running, hypervisor.Absent)
	}
	undo("nothing")
	ticket, err := t.Source.Begin(t.ctx, t.move)
	t.ok("begin", err)
	undo("begin")
	_, err = t.Target.Prepare(t.ctx, t.move, ticket)
	t.ok("prepare", err)
	undo("prepare")
	x := t.begin(t.Options)
	t.ok("cancel", x.Cancel(t.ctx))
	undo("perform")
	x = t.begin(t.Options)
	t.ok("switch over", x.Switchover(t.ctx))
	t.ok("cancel", x.Cancel(t.ctx))
	t.ok("cancel again", x.Cancel(t.ctx))
	undo("switchover")
	x = t.begin(t.Options)
	t.ok("switch over", x.Switchover(t.ctx))
	t.ok("complete", x.Complete(t.ctx))
	undo("complete")
	wholeMove(t)
}

func targetDies(t *trial) {
	x := t.begin(t.Options)
	t.ok("switch over", x.Switchover(t.ctx))
	t.KillTarget()
	if err := x.Complete(t.ctx); err == nil {
		t.Fatal("complete: no error, though the destination had died")
	}
	t.ok("discard", t.Target.Finish(t.ctx, t.move, false))
	t.ok("resume", t.Source.Confirm(t.ctx, t.move, false))
	t.states("after the destination died", hypervisor.Running, hypervisor.Absent)

	x = t.begin(t.Options)
	t.ok("switch over", x.Switchover(t.ctx))
	t.ok("complete", x.Complete(t.ctx))
	t.KillTarget()
	if err := t.Target.Finish(t.ctx, t.move, true); err == nil {
		t.Fatal("finish: no error, though the destination had died")
	}
	t.ok("discard", t.Target.Finish(t.ctx, t.move, false))
	t.ok("resume", t.Source.Confirm(t.ctx, t.move, false))
	t.states("after a complete destination died", hypervisor.Running, hypervisor.Absent)
}

// nextManager undoes what a manager that crashed has left: it has no Transfer.
func nextManager(t *trial) {
	for _, complete := range []bool{false, true} {
		x := t.begin(t.Options)
		t.ok("switch over", x.Switchover(t.ctx))
		if complete {
			t.ok("complete", x.Complete(t.ctx))
		}
		t.Source, t.Target = t.Reopen(t.T)
		t.move.Epoch++
		t.ok("discard", t.Target.Finish(t.ctx, t.move, false))
		t.ok("resume", t.Source.Confirm(t.ctx, t.move, false))
		t.states("undone by the next manager", hypervisor.Running, hypervisor.Absent)
	}
	x := t.begin(t.Options)
	t.ok("switch over", x.Switchover(t.ctx))
	t.ok("complete", x.Complete(t.ctx))
	t.Source, t.Target = t.Reopen(t.T)
	t.move.Epoch++
	t.ok("finish", t.Target.Finish(t.ctx, t.move, true))
	t.ok("confirm", t.Source.Confirm(t.ctx, t.move, true))
	t.states("brought to its end by the next manager", hypervisor.Absent, hypervisor.Running)
}

func refusals(t *trial) {
	t.refused("end a source that runs", t.Source.Confirm(t.ctx, t.move, true), nil)
	t.refused("discard a VM that lives on the host", t.Source.Finish(t.ctx, t.move, false), nil)
	t.refused("let a VM run that is not there", t.Target.Finish(t.ctx, t.move, true), nil)
	gone := t.move
	gone.VM = "nobody"
	gone.Shape.VM = "nobody"
	_, err := t.Source.Begin(t.ctx, gone)
	t.refused("begin to move a VM that is not there", err, hypervisor.ErrNoSuchVM)
	ticket, err := t.Source.Begin(t.ctx, t.move)
	t.ok("begin", err)
	_, err = t.Source.Prepare(t.ctx, t.move, ticket)
	t.refused("prepare where the VM is", err, nil)
	arrival, err := t.Target.Prepare(t.ctx, t.move, ticket)
	t.ok("prepare", err)
	again, err := t.Target.Prepare(t.ctx, t.move, ticket)
	t.ok("prepare again", err)
	_ = arrival // the first listener may be gone
	t.refused("let a destination run that has no memory yet", t.Target.Finish(t.ctx, t.move, true), nil)
	other := t.move
	other.ID = "m9"
	t.refused("discard the destination of another move", t.Target.Finish(t.ctx, other, false), nil)
	_, err = t.Target.Prepare(t.ctx, other, ticket)
	t.refused("prepare over the destination of another move", err, nil)
	x, err := t.Source.Perform(t.ctx, t.move, again, t.Options)
	t.ok("perform", err)
	t.ok("switch over", x.Switchover(t.ctx))
	t.ok("complete", x.Complete(t.ctx))
	t.ok("finish", t.Target.Finish(t.ctx, t.move, true))
	t.refused("discard a destination that has run", t.Target.Finish(t.ctx, t.move, false), nil)
	t.states("after it all", hypervisor.Moved, hypervisor.Running)
}

func fence(t *trial) {
	if !t.Fences {
		return
	}
	_, err := t.Source.Begin(t.ctx, t.move)
	t.ok("begin", err)
	t.ok("discard", t.Target.Finish(t.ctx, t.move, false))
	old := t.move
	old.Epoch--
	_, err = t.Source.Begin(t.ctx, old)
	t.refused("begin", err, hypervisor.ErrFenced)
	_, err = t.Target.Prepare(t.ctx, old, hypervisor.Ticket{Shape: old.Shape})
	t.refused("prepare", err, hypervisor.ErrFenced)
	t.refused("finish", t.Target.Finish(t.ctx, old, true), hypervisor.ErrFenced)
	t.refused("discard", t.Target.Finish(t.ctx, old, false), hypervisor.ErrFenced)
	t.refused("confirm", t.Source.Confirm(t.ctx, old, false), hypervisor.ErrFenced)
	_, err = t.Source.Perform(t.ctx, old, hypervisor.Arrival{Address: "tcp:127.0.0.1:1"}, t.Options)
	t.refused("perform", err, hypervisor.ErrFenced)
	t.states("fenced", hypervisor.Running, hypervisor.Absent)
}

func plug(t *trial) {
	for _, p := range t.Plugs {
		before, err := t.Source.Describe(t.ctx, t.move.VM)
		t.ok("describe", err)
		t.ok("plug", t.Source.Plug(t.ctx, t.move.VM, p))
		with, err := t.Source.Describe(t.ctx, t.move.VM)
		t.ok("describe", err)
		added := slices.DeleteFunc(IDs(with), func(id string) bool { return slices.Contains(IDs(before), id) })
		if len(added) != 1 {
			t.Fatalf("after plugging %+v the VM has also %v, want one more", p, added)
		}
		if !p.VCPU {
			t.refused("plug the same again", t.Source.Plug(t.ctx, t.move.VM, p), nil)
		}
		for range 2 {
			t.ok("unplug", t.Source.Unplug(t.ctx, t.move.VM, added[0]))
		}
		after, err := t.Source.Describe(t.ctx, t.move.VM)
		t.ok("describe", err)
		if after.Digest() != before.Digest() {
			t.Errorf("unplugged, but described as\n%+v\nbefore\n%+v", after, before)
		}
	}
}

func postCopyMove(t *trial) {
	if !t.PostCopy {
		return
	}
	o := t.Options
	o.PostCopy = true
	// Until its commit it can be undone like any other.
	x := t.begin(o)
	l := o.Limits
	l.StopNow = true
	t.ok("ask for post-copy", x.Limit(t.ctx, l))
	t.ok("switch over", x.Switchover(t.ctx))
	t.states("at the switch", hypervisor.Moving, hypervisor.Incoming)
	t.ok("cancel", x.Cancel(t.ctx))
	t.ok("discard", t.Target.Finish(t.ctx, t.move, false))
	t.ok("resume", t.Source.Confirm(t.ctx, t.move, false))
	t.states("undone", hypervisor.Running, hypervisor.Absent)

	x = t.begin(o)
	t.ok("ask for post-copy", x.Limit(t.ctx, l))
	t.ok("switch over", x.Switchover(t.ctx))
	t.ok("post-copy", x.PostCopy(t.ctx))
	t.ok("finish", t.Target.Finish(t.ctx, t.move, true))
	t.ok("complete", x.Complete(t.ctx))
	t.ok("confirm", t.Source.Confirm(t.ctx, t.move, true))
	t.states("in the end", hypervisor.Absent, hypervisor.Running)
}

// Silent is the other end of a Channel for tests that need none to answer.
func Silent(_, _ string) (net.Conn, error) {
	here, there := net.Pipe()
	there.Close()
	return here, nil
}
