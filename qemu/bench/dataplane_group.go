package bench

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

const (
	groupRuns  = 5
	groupTimes = "60x" // changes of one run
)

// dataplaneGroup measures how soon a change of an interface group is what packets see: in the program, held against the
// swap of a map in a map, and from the report on a box to a host's program. Both are Go benchmarks of the package.
func (s *session) dataplaneGroup(ctx context.Context) error {
	dir, err := s.folder("group")
	if err != nil {
		return err
	}
	test := filepath.Join(dir, "group.test")
	compile := exec.CommandContext(ctx, "go", "test", "-c", "-o", test, "./plugins/dataplane/group")
	compile.Dir = s.source.Root
	if out, err := compile.CombinedOutput(); err != nil {
		return fmt.Errorf("compile the benchmarks of interface groups: %w\n%s", err, out)
	}
	runs := groupRuns
	if s.Quick {
		runs = 2
	}
	s.note("change the members of a group %s, %d times", groupTimes, runs)
	seen := map[string][]float64{}
	for range runs {
		cmd := exec.CommandContext(ctx, test, "-test.run", "^$", "-test.bench", "^Benchmark(Visible|Effect)$", "-test.benchtime", groupTimes)
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("benchmarks of interface groups: %w\n%s", err, out)
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
		{"group_change", "ns-change", "µs", 1e3, "", ""},
		{"group_swap", "ns-swap", "µs", 1e3, "", ""},
		{"group_change_to_swap", "x-swap", "x", 1, "<= 0.01", "ARRAY_OF_MAPS swap of the same ring"},
		{"group_change_back_to_back", "ns-back-to-back", "µs", 1e3, "", ""},
		{"group_effect", "ns-effect", "ms", 1e6, "", "box to a host's program, over the sealed channel"},
		{"group_effect_p99", "ns-effect-p99", "ms", 1e6, "", ""},
	} {
		all := seen[f.of]
		if len(all) != runs {
			return fmt.Errorf("benchmarks of interface groups: %d of %d runs printed %s", len(all), runs, f.of)
		}
		s.figures.Record("dataplane."+f.name, Figure{Value: Median(all) / f.scale, Unit: f.unit, Goal: f.goal, Peer: f.peer, N: runs})
	}
	return nil
}

// measured reads the metrics that `go test -bench` prints, by their unit.
func measured(out string) map[string]float64 {
	all := map[string]float64{}
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) < 4 || !strings.HasPrefix(f[0], "Benchmark") {
			continue
		}
		for i := 2; i+1 < len(f); i += 2 {
			if v, err := strconv.ParseFloat(f[i], 64); err == nil {
				all[f[i+1]] = v
			}
		}
	}
	return all
}
