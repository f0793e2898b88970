package memory

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
)

func TestReclaimer(t *testing.T) {
	datadriven.RunTest(t, "testdata/reclaim.txt", func(t *testing.T, d *datadriven.TestData) string {
		var r reclaimer
		var out strings.Builder
		for line := range strings.Lines(d.Input) {
			var mib float64
			var in uint64
			if _, err := fmt.Sscan(line, &mib, &in); err != nil {
				d.Fatalf(t, "%q: %v", line, err)
			}
			if r.next(sample{saved: int64(mib * (1 << 20)), swappedIn: in}) {
				out.WriteString("step\n")
			} else {
				out.WriteString("stop\n")
			}
		}
		return out.String()
	})
}

// TestReclaimerEnds: however much every step brings, there is a last one.
func TestReclaimerEnds(t *testing.T) {
	var r reclaimer
	steps := int64(0)
	for r.next(sample{saved: steps * step}) {
		if steps++; steps > maxSteps {
			t.Fatal("it goes on")
		}
	}
	if steps != maxSteps {
		t.Errorf("%d steps", steps)
	}
}
