package host

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
)

// PluginStatus is a plugin as operators see it.
type PluginStatus struct {
	Name       string
	Version    string
	Summary    string
	State      string // of package supervise: "ready", "failed", …
	Message    string // why the state is what it is
	PID        int    // of the process that serves, 0 without
	UID        int
	Generation uint64 // of the configuration it runs with
	Restarts   int
	Since      time.Time // start of the present state
	Spare      bool      // a spare stands by
	RSS        uint64    // bytes, of the process that serves
	Health     string    // what the plugin says itself: "ok", "degraded", "failed", "" when it does not serve
	Tables     []*pluginpb.Table
	Gauges     []*pluginpb.Gauge
	Jobs       []*pluginpb.Job
	Histograms []*pluginpb.Histogram
	Methods    []*pluginpb.Method
}

// Status returns all plugins, by name.
func (h *Host) Status() []PluginStatus {
	out := make([]PluginStatus, 0, len(h.units))
	for _, name := range h.names() {
		out = append(out, h.units[name].status())
	}
	return out
}

func (u *unit) status() PluginStatus {
	u.mu.Lock()
	v, generation := u.view, u.config.generation
	u.mu.Unlock()
	d := u.program.Descriptor
	s := PluginStatus{
		Name: u.name, Version: d.GetVersion(), Summary: d.GetSummary(), Methods: d.GetMethods(),
		State: v.state.String(), Message: v.message, Since: v.since, Restarts: v.restarts,
		Spare: v.spare, Generation: generation, UID: u.uid,
	}
	if v.process == nil {
		return s
	}
	s.PID = v.process.pid()
	s.RSS = rss(s.PID)
	if v.event != nil {
		s.Health = healthName(v.event.GetHealth())
		s.Tables, s.Gauges, s.Jobs = v.event.GetTables(), v.event.GetGauges(), v.event.GetJobs()
		s.Histograms = v.event.GetHistograms()
	}
	return s
}

func healthName(h pluginpb.Event_Health) string {
	switch h {
	case pluginpb.Event_OK:
		return "ok"
	case pluginpb.Event_DEGRADED:
		return "degraded"
	default:
		return "failed"
	}
}

// rss is the resident size of a process in bytes, 0 when it is gone.
func rss(pid int) uint64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0
	}
	fields := bytes.Fields(data)
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseUint(string(fields[1]), 10, 64)
	if err != nil {
		return 0
	}
	return pages * uint64(os.Getpagesize())
}
