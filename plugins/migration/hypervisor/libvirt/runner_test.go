package libvirt

import (
	"testing"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/model"
	"github.com/ratchetos/ratchet/plugins/migration/plan"
	"github.com/ratchetos/ratchet/plugins/migration/run"
	"github.com/ratchetos/ratchet/plugins/migration/run/journal"
)

// TestRunner: the manager's own planner and runner move a VM between two daemons, there and back. Under TCG of this age a
// plan must be a post-copy at once, since libvirt's sizes of memory are those that QEMU loses writes of.
func TestRunner(t *testing.T) {
	long(t)
	x := try(t, vm())
	hosts := map[string]*Port{x.move.From: x.ports[0], x.move.To: x.ports[1]}
	changed := make(chan struct{}, 1)
	r, err := run.Open(run.Options{
		Ports: func(host string) (hypervisor.Port, error) { return hosts[host], nil }, Disk: journal.Dir(t.TempDir()),
		Changed: func() {
			select {
			case changed <- struct{}{}:
			default:
			}
		},
	})
	x.ok("open the runner", err)
	defer r.Close()
	for i, id := range []string{"there", "back"} {
		from, to := x.ports[i], x.ports[1-i]
		in := plan.Input{ID: id, Goal: model.Goal{AllowPostCopy: true}}
		in.Shape, err = from.Describe(x.ctx, "vm1")
		x.ok("describe", err)
		in.Source, err = from.Capabilities(x.ctx)
		x.ok("capabilities", err)
		in.Target, err = to.Capabilities(x.ctx)
		x.ok("capabilities", err)
		p, refusals := plan.Make(in)
		if len(refusals) > 0 {
			t.Fatalf("%s: refused: %+v", id, refusals)
		}
		x.ok("start", r.Start(p))
		for {
			m, _ := r.Move(id)
			if m.Held {
				t.Fatalf("%s: held: %+v", id, m)
			}
			if !m.Ended.IsZero() {
				if m.Outcome != run.Moved {
					t.Fatalf("%s: %+v", id, m)
				}
				break
			}
			select {
			case <-changed:
			case <-x.ctx.Done():
				t.Fatalf("%s: still %+v", id, m)
			}
		}
		x.state(i, hypervisor.Absent)
		x.state(1-i, hypervisor.Running)
	}
}
