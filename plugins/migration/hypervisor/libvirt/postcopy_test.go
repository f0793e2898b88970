package libvirt

import (
	"testing"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
)

// TestPostCopy: the source is stopped before the first byte, which can be taken back; the destination runs after the
// commit, and fetches what is missing. It runs alone: beside others one cancel of it in forty did not end.
func TestPostCopy(t *testing.T) {
	x := try(t, vm(t))
	o := hypervisor.Options{PostCopy: true, Limits: hypervisor.Limits{StopNow: true}}
	transfer, err := x.perform(o)
	x.ok("perform", err)
	x.ok("switch over", transfer.Switchover(x.ctx))
	x.state(0, hypervisor.Moving)
	x.ok("cancel", transfer.Cancel(x.ctx))
	x.ok("discard", x.ports[1].Finish(x.ctx, x.move, false))
	x.ok("resume", x.ports[0].Confirm(x.ctx, x.move, false))
	x.state(0, hypervisor.Running)
	x.state(1, hypervisor.Absent)

	o.StopNow, o.Rest = false, 4<<20
	transfer, err = x.perform(o)
	x.ok("perform", err)
	x.ok("stop now", transfer.Limit(x.ctx, hypervisor.Limits{Rest: 4 << 20, StopNow: true}))
	x.ok("switch over", transfer.Switchover(x.ctx))
	x.ok("post-copy", transfer.PostCopy(x.ctx))
	if err := transfer.Cancel(x.ctx); err == nil {
		t.Error("a post-copy was taken back")
	}
	x.ok("finish", x.ports[1].Finish(x.ctx, x.move, true))
	x.state(1, hypervisor.Running)
	x.ok("lift the limit", transfer.Limit(x.ctx, hypervisor.Limits{}))
	x.ok("complete", transfer.Complete(x.ctx))
	x.ok("confirm", x.ports[0].Confirm(x.ctx, x.move, true))
	x.state(0, hypervisor.Absent)
	x.state(1, hypervisor.Running)
}
