package bench

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
)

// dataplaneVNI measures how a VNI goes to another instance: the switching step, held against the kernel's move of a
// link, and whole fail-overs under a stream of 1,000 datagrams a second. All are Go benchmarks of the package, with
// real agents as processes in network namespaces.
func (s *session) dataplaneVNI(ctx context.Context) error {
	dir, err := s.folder("vni")
	if err != nil {
		return err
	}
	test := filepath.Join(dir, "vni.test")
	compile := exec.CommandContext(ctx, "go", "test", "-c", "-o", test, "./plugins/dataplane/vni")
	compile.Dir = s.source.Root
	if out, err := compile.CombinedOutput(); err != nil {
		return fmt.Errorf("compile the benchmarks of VNIs: %w\n%s", err, out)
	}
	switches, failures := 200, 20
	if s.Quick {
		switches, failures = 50, 5
	}
	for _, b := range []struct {
		name    string
		n       int
		figures []vniFigure
	}{
		{"Switch", switches, []vniFigure{
			{"vni_switch", "ns-switch", "µs", 1e3, "", ""},
			{"vni_kernel_move", "ns-move", "ms", 1e6, "", ""},
			{"vni_switch_to_move", "x-move", "x", 1, "<= 0.001", "netlink move of the link, with address and up"},
		}},
		{"Killed", failures, []vniFigure{
			{"vni_killed_lost", "lost", "datagrams", 1, "<= 200", ""},
			{"vni_killed_lost_max", "lost-max", "datagrams", 1, "", "one instance killed, its agent alive; 1,000 datagrams a second"},
			{"vni_killed_moved", "ns-moved", "ms", 1e6, "", "detection included"},
		}},
		{"Silent", failures, []vniFigure{
			{"vni_silent_lost", "lost", "datagrams", 1, "", ""},
			{"vni_silent_moved", "ns-moved", "ms", 1e6, "<= 250", "lease of 150 ms and 100 ms; its agent stopped"},
		}},
	} {
		s.note("VNIs: %s, %d times", b.name, b.n)
		cmd := exec.CommandContext(ctx, test, "-test.run", "^$", "-test.bench", "^Benchmark"+b.name+"$", "-test.benchtime", fmt.Sprint(b.n, "x"))
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("benchmark of VNIs %s: %w\n%s", b.name, err, out)
		}
		seen := measured(string(out))
		for _, f := range b.figures {
			v, printed := seen[f.of]
			if !printed {
				return fmt.Errorf("benchmark of VNIs %s did not print %s", b.name, f.of)
			}
			s.figures.Record("dataplane."+f.name, Figure{Value: v / f.scale, Unit: f.unit, Goal: f.goal, Peer: f.peer, N: b.n})
		}
	}
	return nil
}

// vniFigure is one metric of a Go benchmark.
type vniFigure struct {
	name, of, unit string
	scale          float64
	goal, peer     string
}
