package bench

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
)

const balancerRuns = 3

// dataplaneBalancer measures the balancer's control: how far rings are behind a storm of changes and what that costs, how
// soon a host's word is credit in the program, and how soon a connection is in the peer's table. All are Go benchmarks of
// the package.
func (s *session) dataplaneBalancer(ctx context.Context) error {
	dir, err := s.folder("balancer")
	if err != nil {
		return err
	}
	test := filepath.Join(dir, "balancer.test")
	compile := exec.CommandContext(ctx, "go", "test", "-c", "-o", test, "./plugins/dataplane/balancer")
	compile.Dir = s.source.Root
	if out, err := compile.CombinedOutput(); err != nil {
		return fmt.Errorf("compile the benchmarks of the balancer: %w\n%s", err, out)
	}
	runs := balancerRuns
	if s.Quick {
		runs = 1
	}
	s.note("change a thousand VIPs, report and share flows, %d times", runs)
	seen := map[string][]float64{}
	for range runs {
		for _, b := range []struct{ name, times string }{{"Updates", "300x"}, {"Effect", "300x"}, {"FlowSync", "200x"}} {
			cmd := exec.CommandContext(ctx, test, "-test.run", "^$", "-test.bench", "^Benchmark"+b.name+"$", "-test.benchtime", b.times)
			out, err := cmd.CombinedOutput()
			if err != nil {
				return fmt.Errorf("benchmark %s of the balancer: %w\n%s", b.name, err, out)
			}
			for unit, v := range measured(string(out)) {
				seen[unit] = append(seen[unit], v)
			}
		}
	}
	for _, f := range []struct {
		name, of, unit string
		scale          float64
		goal, peer     string
	}{
		{"balancer_updates", "updates/min", "/min", 1, ">= 100000", "one weight each, of 1,000 VIPs with 20 backends"},
		{"balancer_update_lag_max", "ns-lag-max", "s", 1e9, "<= 1", "from a change until its ring is in force"},
		{"balancer_update_cores", "cores", "cores", 1, "<= 1", ""},
		{"balancer_report_effect", "ns-effect", "ms", 1e6, "", "the application's word, over the sealed channel, until the program has the credit"},
		{"balancer_report_effect_p99", "ns-effect-p99", "ms", 1e6, "", ""},
		{"balancer_report_box", "ns-box", "µs", 1e3, "", "of that in the box"},
		{"balancer_sync_lag", "ns-sync", "ms", 1e6, "", "a connection's event until the peer has it and says so"},
		{"balancer_sync_lag_p99", "ns-sync-p99", "ms", 1e6, "", ""},
		{"balancer_sync_rate", "flows/s", "/s", 1, "", ""},
	} {
		all := seen[f.of]
		if len(all) != runs {
			return fmt.Errorf("benchmarks of the balancer: %d of %d runs printed %s", len(all), runs, f.of)
		}
		s.figures.Record("dataplane."+f.name, Figure{Value: Median(all) / f.scale, Unit: f.unit, Goal: f.goal, Peer: f.peer, N: runs})
	}
	return nil
}
