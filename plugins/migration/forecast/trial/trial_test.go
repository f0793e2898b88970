package trial

import (
	"math"
	"testing"
)

// TestSeries holds a few of the series to what all of them are held to in `make bench AREA=schedule`, with fewer requests.
func TestSeries(t *testing.T) {
	if testing.Short() {
		t.Skip("counts thousands of forecasts")
	}
	all, err := ReadAll("series")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		o, ok := Run(s, Options{})
		if !ok {
			continue
		}
		t.Logf("%-38s %.3f × clairvoyant, %.3f × at once, at once %.3f, coverage %.3f, %d of %d may wait", s.Name, o.Regret(), o.AgainstNow(), o.Now/o.Clairvoyant, o.Coverage(), o.Skilled, o.Requests)
		if math.IsNaN(o.Regret()) {
			t.Error("nan")
		}
	}
}
