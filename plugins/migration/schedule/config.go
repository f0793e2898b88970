package schedule

import (
	"fmt"
	"strings"
	"time"

	"github.com/ratchetos/ratchet/core/config/strict"
)

// Config is the section plugins.migration.schedule.
type Config struct {
	Links   []Link   `json:"links,omitempty" jsonschema:"description=links that moves share; without any, moves start when they are asked for"`
	Windows []Window `json:"windows,omitempty" jsonschema:"description=maintenance windows that moves can be bound to"`
}

// Link is a part of the network whose bandwidth moves share with others.
type Link struct {
	Name     string      `json:"name" config:"required" jsonschema:"description=name in tables and plans"`
	Capacity strict.Size `json:"capacity" config:"required" jsonschema:"description=bytes a second that it carries, as 1170MiB for 10 Gbit/s"`
	Budget   strict.Size `json:"budget,omitempty" jsonschema:"description=bytes a second that moves may use together; the whole capacity by default"`
	Hosts    []string    `json:"hosts,omitempty" jsonschema:"description=hosts whose moves go over it; all by default"`
	Watch    Watch       `json:"watch,omitempty" jsonschema:"description=where its load is read; without it only moves themselves count"`
}

// Watch is where a load comes from.
type Watch struct {
	Metrics string          `json:"metrics,omitempty" jsonschema:"description=page of Prometheus metrics, as http://switch:9100/metrics"`
	Metric  string          `json:"metric,omitempty" jsonschema:"description=metric with its labels, as node_network_transmit_bytes_total{device=\"eth0\"}; a counter if its name ends in _total"`
	Every   strict.Duration `json:"every,omitempty" config:"min=1s,max=1h" jsonschema:"description=how often it is read (default 30s)"`
}

// MaxLinks and MaxWindows bound a configuration.
const (
	MaxLinks   = 32
	MaxWindows = 32
)

// Budgeted is what moves may use.
func (l Link) Budgeted() uint64 {
	if l.Budget == 0 {
		return uint64(l.Capacity)
	}
	return uint64(l.Budget)
}

// Watched says whether a load is read at all.
func (w Watch) Watched() bool { return w.Metrics != "" }

// Interval is how often.
func (w Watch) Interval() time.Duration {
	if w.Every == 0 {
		return 30 * time.Second
	}
	return time.Duration(w.Every)
}

// Check tells what is wrong with a configuration, each with the path below the section.
func (c Config) Check(problem func(path, text string)) {
	if len(c.Links) > MaxLinks {
		problem("links", fmt.Sprintf("%d links: at most %d", len(c.Links), MaxLinks))
	}
	if len(c.Windows) > MaxWindows {
		problem("windows", fmt.Sprintf("%d windows: at most %d", len(c.Windows), MaxWindows))
	}
	names := map[string]bool{}
	for i, l := range c.Links {
		path := fmt.Sprintf("links[%d]", i)
		if names[l.Name] {
			problem(path+".name", fmt.Sprintf("link %q is there twice", l.Name))
		}
		names[l.Name] = true
		if l.Budget > l.Capacity {
			problem(path+".budget", "is more than the capacity")
		}
		l.Watch.check(func(field, text string) { problem(path+".watch"+field, text) })
	}
	names = map[string]bool{}
	for i, w := range c.Windows {
		path := fmt.Sprintf("windows[%d]", i)
		if names[w.Name] {
			problem(path+".name", fmt.Sprintf("window %q is there twice", w.Name))
		}
		names[w.Name] = true
		if _, err := w.parse(); err != nil {
			problem(path, err.Error())
		}
	}
}

func (w Watch) check(problem func(field, text string)) {
	switch {
	case w.Metrics != "":
		if rest, ok := strings.CutPrefix(strings.Replace(w.Metrics, "https://", "http://", 1), "http://"); !ok || rest == "" {
			problem(".metrics", "is not a web address, as http://switch:9100/metrics")
		}
		if w.Metric == "" {
			problem(".metric", "is missing: name the metric on the page")
		}
	case w.Metric != "":
		problem(".metrics", "is missing: where is the metric read?")
	}
}
