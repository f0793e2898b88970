package libvirt

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/ratchetos/ratchet/plugins/migration/agent"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/model"
	"github.com/ratchetos/ratchet/plugins/migration/plan"
	"github.com/ratchetos/ratchet/plugins/migration/run"
	"github.com/ratchetos/ratchet/plugins/migration/run/journal"
	"github.com/ratchetos/ratchet/qemu/lab"
	"github.com/ratchetos/ratchet/qemu/lab/load"
)

// linux is a guest with an operating system and our agent in it.
func linux(t *testing.T) model.Shape {
	t.Helper()
	image, err := lab.Build()
	if err != nil {
		t.Fatal(err)
	}
	s := vm(t)
	s.Memory.Boot = 192 << 20
	s.Others = append(s.Others, model.Device{ID: "lab", Args: "virtserialport,name=" + load.Port})
	s.Boot = image.Shape(s.VM).Boot
	// Both hosts find the kernel at the same place, which their daemons may read.
	for _, file := range []*string{&s.Boot.Kernel, &s.Boot.Initrd} {
		text, err := os.ReadFile(*file)
		if err != nil {
			t.Fatal(err)
		}
		*file = filepath.Join(filepath.Dir(shared[0].Dir), filepath.Base(*file))
		if err := os.WriteFile(*file, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// TestRunner: the manager's own planner and runner move a guest with an agent between two daemons, to a type with another
// vCPU and back. Under TCG of this age a plan must be a post-copy at once, since libvirt's sizes of memory are those that
// QEMU loses writes of. It has hosts of its own: a plan counts the VMs beside its own.
func TestRunner(t *testing.T) {
	long(t)
	t.Parallel()
	x := own(t, "f", "g").try(t, linux(t))
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
	bootID := ""
	for i, id := range []string{"there", "back"} {
		from, to := x.ports[i], x.ports[1-i]
		guest := agent.New(func(ctx context.Context) (net.Conn, error) { return from.Channel(ctx, x.move.VM) }, agent.Options{})
		report, err := guest.Report(x.ctx)
		x.ok("ask the agent", err)
		x.ok("hang up", guest.Close())
		if bootID != "" && report.BootID != bootID {
			t.Errorf("another guest runs: it was booted as %s, now %s", bootID, report.BootID)
		}
		bootID = report.BootID
		if i == 1 && report.CPUs != 2 {
			t.Errorf("the guest has %d CPUs online, want 2", report.CPUs)
		}
		in := plan.Input{ID: id, Guest: &report, Type: model.VMType{VCPUs: 2}, Goal: model.Goal{AllowPostCopy: true}}
		in.Shape, err = from.Describe(x.ctx, x.move.VM)
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
		if s := x.ends(r, id, changed); s.Outcome != run.Moved {
			t.Fatalf("%s: %+v", id, s)
		}
		x.state(i, hypervisor.Absent)
		x.state(1-i, hypervisor.Running)
	}
}

// ends waits until a move has ended, or waits for an operator.
func (t *trial) ends(r *run.Runner, id string, changed <-chan struct{}) run.Status {
	t.Helper()
	for {
		s, _ := r.Move(id)
		if s.Held || !s.Ended.IsZero() {
			return s
		}
		select {
		case <-changed:
		case <-t.ctx.Done():
			t.Fatalf("%s: still %+v", id, s)
		}
	}
}
