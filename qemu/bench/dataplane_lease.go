package bench

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
)

const leaseRuns = 3

// dataplaneLease measures how soon two leasing agents answer 10,000 consumers that renew, what an answer costs, and how
// much their memory grows. It is a Go benchmark of the package; consumers and agents share the machine.
func (s *session) dataplaneLease(ctx context.Context) error {
	dir, err := s.folder("lease")
	if err != nil {
		return err
	}
	test := filepath.Join(dir, "lease.test")
	compile := exec.CommandContext(ctx, "go", "test", "-c", "-o", test, "./plugins/dataplane/lease")
	compile.Dir = s.source.Root
	if out, err := compile.CombinedOutput(); err != nil {
		return fmt.Errorf("compile the benchmarks of leases: %w\n%s", err, out)
	}
	runs := leaseRuns
	if s.Quick {
		runs = 1
	}
	s.note("10,000 consumers renew their leases, %d times", runs)
	seen := map[string][]float64{}
	for range runs {
		cmd := exec.CommandContext(ctx, test, "-test.run", "^$", "-test.bench", "^BenchmarkStorm$", "-test.benchtime", "1x")
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("benchmarks of leases: %w\n%s", err, out)
		}
		for unit, v := range measured(string(out)) {
			seen[unit] = append(seen[unit], v)
		}
	}
	for _, f := range []struct {
		name, of, unit string
		scale          float64
		goal, peer     string
	}{
		{"lease_renewal_p99", "ns-p99", "ms", 1e6, "<= 50", "10,000 consumers, two agents, one machine"},
		{"lease_renewal_p50", "ns-p50", "ms", 1e6, "", ""},
		{"lease_renewal_cpu", "ns-cpu", "µs", 1e3, "", "both ends of the sealed channel"},
		{"lease_burst_p99", "ns-burst-p99", "ms", 1e6, "", "all 10,000 ask in one moment"},
		{"lease_memory", "B-grown", "MiB", 1 << 20, "<= 64", ""},
	} {
		all := seen[f.of]
		if len(all) != runs {
			return fmt.Errorf("benchmarks of leases: %d of %d runs printed %s", len(all), runs, f.of)
		}
		s.figures.Record("dataplane."+f.name, Figure{Value: Median(all) / f.scale, Unit: f.unit, Goal: f.goal, Peer: f.peer, N: runs})
	}
	return nil
}
