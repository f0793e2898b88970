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
			{Name: "h1/cpu", Capacity: 100, Watch: Watch{Host: "h1"}},
			{Name: "e", Capacity: 100, Watch: Watch{NIC: "eth0"}},
			{Name: "f", Capacity: 100, Watch: Watch{Host: "h1", NIC: "eth0"}},
		},
		Hosts: []Host{
			{Name: "h1", CPU: CPU{Count: 4, Budget: 5}, Memory: Memory{Size: 10, Keep: 10}},
			{Name: "h1", CPU: CPU{Budget: -1}},
			{Name: "h2", CPU: CPU{Watch: Watch{Metrics: "http://h2/metrics", Metric: "x"}}, Memory: Memory{Watch: Watch{Metrics: "http://h2/metrics", Metric: "x"}}},
			{Name: "h3", CPU: CPU{Watch: Watch{Host: "h4"}}, Memory: Memory{Watch: Watch{Free: true}}},
			{Name: "h4", CPU: CPU{Count: 4, Watch: Watch{Metrics: "http://h4/metrics", Metric: "idle_total", Free: true}}},
		},
		Windows: []Window{{Name: "w", From: "22:00", To: "4:00"}, {Name: "w", From: "25:00", To: "04:00"}, {Name: "x", From: "01:00", To: "02:00", Days: "mon-fry"}},
	}
	var got []string
	c.Check(func(path, _ string) { got = append(got, path) })
	want := []string{
		"links[0].budget", "links[1].name", "links[1].watch.metrics", "links[2].watch.metric", "links[3].watch.metrics",
		"links[5].name", "links[5].watch.nic", "links[6].watch.host",
		"hosts[0].cpu.budget", "hosts[0].memory.keep", "hosts[1].name", "hosts[1].cpu.budget", "hosts[2].cpu.count", "hosts[2].memory.size",
		"hosts[3].cpu.watch", "hosts[3].memory.watch.free", "windows[1].name", "windows[1]", "windows[2]",
	}
	if !slices.Equal(got, want) {
		t.Errorf("problems at %q, not at %q", got, want)
	}
}
