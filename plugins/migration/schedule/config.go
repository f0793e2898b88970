package schedule

import (
	"fmt"
	"strings"

	"github.com/ratchetos/ratchet/core/config/strict"
)

// Config is the section plugins.migration.schedule.
type Config struct {
	Links   []Link   `json:"links,omitempty" jsonschema:"description=links that moves share; without any and without hosts, moves start when they are asked for"`
	Hosts   []Host   `json:"hosts,omitempty" jsonschema:"description=hosts whose processors and memory are watched, and moves wait for"`
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

// MaxLinks, MaxHosts and MaxWindows bound a configuration.
const (
	MaxLinks   = 32
	MaxHosts   = 64
	MaxWindows = 32
)

// Empty says whether there is nothing to wait for.
func (c Config) Empty() bool { return len(c.Links) == 0 && len(c.Hosts) == 0 }

// Check tells what is wrong with a configuration, each with the path below the section.
func (c Config) Check(problem func(path, text string)) {
	if len(c.Links) > MaxLinks {
		problem("links", fmt.Sprintf("%d links: at most %d", len(c.Links), MaxLinks))
	}
	if len(c.Hosts) > MaxHosts {
		problem("hosts", fmt.Sprintf("%d hosts: at most %d", len(c.Hosts), MaxHosts))
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
		if strings.Contains(l.Name, "/") {
			problem(path+".name", "has a slash, as only the names of hosts' resources have")
		}
		if l.Budget > l.Capacity {
			problem(path+".budget", "is more than the capacity")
		}
		l.Watch.checkLink(func(field, text string) { problem(path+".watch"+field, text) })
	}
	names = map[string]bool{}
	for i, h := range c.Hosts {
		path := fmt.Sprintf("hosts[%d]", i)
		if names[h.Name] {
			problem(path+".name", fmt.Sprintf("host %q is there twice", h.Name))
		}
		names[h.Name] = true
		h.check(func(field, text string) { problem(path+field, text) })
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
