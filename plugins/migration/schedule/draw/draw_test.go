package draw

import (
	"flag"
	"math"
	"os"
	"testing"
	"time"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files")

// view is a link that is busy by day and free by night, with two moves.
func view() View {
	now := time.Date(2026, 3, 2, 20, 0, 0, 0, time.UTC)
	l := Link{
		Name: "uplink", Capacity: 1170 << 20, Budget: 800 << 20, Samples: 8064, Step: 15 * time.Minute, From: now.Add(-6 * time.Hour),
		Method: "waiting by the forecast would have saved 12 % lately",
	}
	load := func(i int) float64 {
		hour := 14 + float64(i)/4
		return .5 + .4*math.Sin((hour-9)/24*2*math.Pi)
	}
	for i := range 24 {
		l.Past = append(l.Past, load(i))
	}
	l.Past[5] = -1 // nobody looked
	for i := 24; i < 96; i++ {
		m := load(i)
		l.Low, l.Mid, l.High = append(l.Low, max(0, m-.12)), append(l.Mid, m), append(l.High, min(1, m+.18))
	}
	night := now.Add(6 * time.Hour)
	return View{Now: now, Links: []Link{l, {Name: "backbone", Capacity: 100 << 20, Budget: 100 << 20, Method: "its load is not watched"}}, Slots: []Slot{
		{ID: "m-1", VM: "database", State: "booked", Links: []string{"uplink"}, Start: night, End: night.Add(50 * time.Minute), Why: []string{"starts when it is quiet"}},
		{ID: "m-2", VM: "web", State: "running", Links: []string{"uplink", "backbone"}, Start: now.Add(-5 * time.Minute), End: now.Add(10 * time.Minute), Why: []string{"starts at once"}},
		{ID: "m-3", VM: "hot", State: "denied", Why: []string{"pre-copy would not end"}},
	}}
}

func TestGolden(t *testing.T) {
	for name, c := range map[string]struct {
		view  View
		width int
	}{
		"wide.txt":   {view(), 100},
		"narrow.txt": {view(), 10},
		"empty.txt":  {View{Now: view().Now}, 0},
	} {
		got := Schedule(c.view, c.width)
		path := "testdata/" + name
		if *rewrite {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil || got != string(want) {
			t.Errorf("%s: %v\n%s", name, err, got)
		}
	}
}
