package trial

import (
	"math"
	"testing"
	"time"
)

// Looser than the bench, which takes medians: this runs beside all the other tests.
func TestRealRunIsAsSimulated(t *testing.T) {
	const tolerance, tries = 0.25, 4
	for try := 1; ; try++ {
		outcomes, err := Run(t.Context(), Options{Dir: t.TempDir(), Length: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		worst := 0.0
		for _, o := range outcomes {
			t.Logf("%s: %.0f/s, simulated %.0f/s", o.Name, o.Real, o.Simulated)
			worst = max(worst, math.Abs(o.Real/o.Simulated-1))
		}
		if worst <= tolerance {
			return
		}
		if try == tries {
			t.Fatalf("off by %.0f %% in the last of %d tries, want at most %.0f %%", 100*worst, tries, 100*tolerance)
		}
	}
}
