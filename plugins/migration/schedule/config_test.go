package schedule

import (
	"slices"
	"testing"
)

// TestCheck: everything that is wrong is told together, each with its path.
func TestCheck(t *testing.T) {
	c := Config{
		Links: []Link{
			{Name: "a", Capacity: 100, Budget: 200},
			{Name: "a", Capacity: 100, Watch: Watch{Metrics: "ftp://switch/metrics", Metric: "x"}},
			{Name: "b", Capacity: 100, Watch: Watch{Metrics: "http://switch/metrics"}},
			{Name: "c", Capacity: 100, Watch: Watch{Metric: "x"}},
			{Name: "d", Capacity: 100, Watch: Watch{Metrics: "https://switch/metrics", Metric: "x"}},
		},
		Windows: []Window{{Name: "w", From: "22:00", To: "4:00"}, {Name: "w", From: "25:00", To: "04:00"}, {Name: "x", From: "01:00", To: "02:00", Days: "mon-fry"}},
	}
	var got []string
	c.Check(func(path, _ string) { got = append(got, path) })
	want := []string{"links[0].budget", "links[1].name", "links[1].watch.metrics", "links[2].watch.metric", "links[3].watch.metrics", "windows[1].name", "windows[1]", "windows[2]"}
	if !slices.Equal(got, want) {
		t.Errorf("problems at %q, not at %q", got, want)
	}
}
