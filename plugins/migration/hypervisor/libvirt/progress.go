package libvirt

import (
	"context"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/libvirt/remote"
)

// Progress implements hypervisor.Transfer.
func (x *transfer) Progress(ctx context.Context) (hypervisor.Progress, error) {
	x.note(ctx)
	x.mu.Lock()
	defer x.mu.Unlock()
	g := x.last
	switch {
	case x.complete:
		g.Phase, g.Remaining = "completed", 0
	case x.undone:
		g.Phase = "cancelled"
	case x.failed():
		g.Phase, g.Problem = "failed", x.err.Error()
	case x.postCopy:
		g.Phase = "post-copy"
	case x.stopped || x.over():
		g.Phase = "switchover"
	case g.Phase == "":
		g.Phase = "setup"
	}
	return g, nil
}

// note asks the daemon how far the transfer is. An answer that does not come leaves the last.
func (x *transfer) note(ctx context.Context) {
	x.mu.Lock()
	ended := x.complete || x.undone
	x.mu.Unlock()
	if ended {
		return
	}
	kind, p, err := x.p.conn.JobStats(ctx, x.d.dom, false)
	if err != nil || kind == remote.JobNone {
		return
	}
	g := hypervisor.Progress{
		Phase: "active", Transferred: p.Uint("memory_processed") + p.Uint("disk_processed"),
		Remaining: p.Uint("memory_remaining") + p.Uint("disk_remaining"), Total: p.Uint("memory_total") + p.Uint("disk_total"),
		// The rate counts pages of memory.
		DirtyRate: float64(p.Uint("memory_dirty_rate")) * float64(max(p.Uint("memory_page_size"), 4096)),
		Bandwidth: float64(p.Uint("memory_bps") + p.Uint("disk_bps")), Passes: int(p.Uint("memory_iteration")),
		Throttle: int(p.Uint("auto_converge_throttle")), Downtime: time.Duration(p.Uint("downtime")) * time.Millisecond,
	}
	if g.Total == 0 {
		return // not begun
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.last = g
}
