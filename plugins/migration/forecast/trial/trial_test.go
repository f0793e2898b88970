package trial

import (
	"path/filepath"
	"testing"
)

// TestSeries tries three series, cut to what takes a second. Where the load has a season, waiting by the forecast is shorter than
// starting at once; where it has none, the back-test keeps transfers from waiting. All series are in `make bench AREA=schedule`.
func TestSeries(t *testing.T) {
	for _, c := range []struct {
		name       string
		regret     float64 // at most
		againstNow float64
	}{
		{"nyc_taxi", 1.10, .6},
		{"occupancy_6005", 1.12, .95},
		{"ec2_cpu_utilization_825cc2", 1.3, 1.05},
	} {
		s, err := Read(filepath.Join("series", c.name+".csv.gz"))
		if err != nil {
			t.Fatal(err)
		}
		o, ok := Run(s, Options{Requests: 60, Days: 30})
		if !ok {
			t.Fatalf("%s is too short", c.name)
		}
		t.Logf("%s: %.3f × clairvoyant, %.3f × at once, coverage %.3f", c.name, o.Regret(), o.AgainstNow(), o.Coverage())
		if o.Regret() > c.regret || o.AgainstNow() > c.againstNow || o.Coverage() < .75 {
			t.Errorf("%s: %.3f × clairvoyant, %.3f × at once, coverage %.3f", c.name, o.Regret(), o.AgainstNow(), o.Coverage())
		}
	}
}

func TestReadAll(t *testing.T) {
	if _, err := ReadAll(t.TempDir()); err == nil {
		t.Error("an empty folder is no error")
	}
	all, err := ReadAll("series")
	if err != nil || len(all) != 11 {
		t.Errorf("%d series, %v", len(all), err)
	}
}
