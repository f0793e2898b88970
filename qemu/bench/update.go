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
	slotRuns  = 9
	slotTimes = "20x" // iterations of one run
)

// update holds the writing of a slot of 25 MiB, durable and read back, against the same bytes written and read with
// nothing else. Both are Go benchmarks of core/update; they take turns.
func (s *session) update(ctx context.Context) error {
	dir, err := s.folder("update")
	if err != nil {
		return err
	}
	test := filepath.Join(dir, "update.test")
	compile := exec.CommandContext(ctx, "go", "test", "-c", "-o", test, "./core/update")
	compile.Dir = s.source.Root
	if out, err := compile.CombinedOutput(); err != nil {
		return fmt.Errorf("compile the benchmarks of updates: %w\n%s", err, out)
	}
	runs := slotRuns
	if s.Quick {
		runs = 2
	}
	s.note("write a slot and the raw medium %d times in turn", runs)
	var slot, raw, ratio []float64
	for range runs {
		var took [2]float64
		for i, name := range []string{"BenchmarkSlot", "BenchmarkRaw"} {
			cmd := exec.CommandContext(ctx, test, "-test.run", "^$", "-test.bench", "^"+name+"$", "-test.benchtime", slotTimes)
			cmd.Env = append(cmd.Environ(), "TMPDIR="+dir)
			out, err := cmd.CombinedOutput()
			if err != nil {
				return fmt.Errorf("%s: %w\n%s", name, err, out)
			}
			if took[i], err = perOperation(string(out), name); err != nil {
				return err
			}
		}
		slot, raw, ratio = append(slot, took[0]), append(raw, took[1]), append(ratio, took[0]/took[1])
	}
	peer := "the same 25 MiB written, one sync, read with O_DIRECT"
	s.figures.Record("update.slot_write", Figure{Value: Median(slot) / 1e6, Unit: "ms", N: runs})
	s.figures.Record("update.raw_write", Figure{Value: Median(raw) / 1e6, Unit: "ms", N: runs})
	s.figures.Record("update.slot_to_raw", Figure{Value: Median(ratio), Unit: "x", Goal: "<= 1.2", Peer: peer, N: runs})
	return nil
}

// perOperation reads the nanoseconds of one operation from what `go test -bench` prints.
func perOperation(out, name string) (float64, error) {
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) >= 4 && strings.HasPrefix(f[0], name) && f[3] == "ns/op" {
			return strconv.ParseFloat(f[2], 64)
		}
	}
	return 0, fmt.Errorf("no time of %s in %q", name, out)
}
