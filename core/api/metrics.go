package api

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/ratchetos/ratchet/core/api/apipb"
	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
)

// metrics serves what Status and Plugins say at the moment of the scrape. The registry is
// the server's own: all applets share one binary, and the global one fills up in init.
func (s *Server) metrics() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collector{s.backend})
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorHandling:       promhttp.ContinueOnError, // one plugin's bad gauge hides no other
		MaxRequestsInFlight: 4,
		Timeout:             scrapeTimeout,
	})
}

const scrapeTimeout = 5 * time.Second

// collector is unchecked: which gauges there are depends on the plugins that run.
type collector struct{ backend Backend }

var _ prometheus.Collector = collector{}

func (c collector) Describe(chan<- *prometheus.Desc) {}

func (c collector) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	e := emitter{out: out, kinds: map[string]series{}}
	if status, err := c.backend.Status(ctx); err == nil {
		e.box(status)
	}
	plugins, err := c.backend.Plugins(ctx)
	if err != nil {
		return
	}
	for _, p := range plugins {
		e.plugin(p)
	}
}

// series is what all samples of one name must agree on.
type series struct {
	kind prometheus.ValueType
	help string
}

type emitter struct {
	out   chan<- prometheus.Metric
	kinds map[string]series
}

func (e emitter) box(s *apipb.StatusReply) {
	released := 0.0
	if s.GetVerdict().GetDecision() == "released" {
		released = 1
	}
	e.gauge("ratchet_info", "the image this box runs", 1, map[string]string{"version": s.GetVersion(), "slot": s.GetSlot()})
	e.gauge("ratchet_released", "1 when the verdict let the hardware be used", released, nil)
	e.gauge("ratchet_counter", "attempts ever made on this box", float64(s.GetCounter()), nil)
	e.gauge("ratchet_counter_expected", "counter value the last boot settled on", float64(s.GetExpected()), nil)
	e.gauge("ratchet_uptime_seconds", "time since power-on", float64(s.GetUptimeMs())/1000, nil)
	e.gauge("ratchet_memory_available_bytes", "memory left for new work", float64(s.GetMemoryAvailable()), nil)
}

func (e emitter) plugin(p *apipb.Plugin) {
	labels := map[string]string{"plugin": p.GetName()}
	e.gauge("ratchet_plugin_state", "1 for the state the plugin is in", 1, map[string]string{"plugin": p.GetName(), "state": p.GetState()})
	e.sample("ratchet_plugin_restarts_total", "starts after the first one", prometheus.CounterValue, float64(p.GetRestarts()), labels)
	e.gauge("ratchet_plugin_memory_bytes", "resident memory of the plugin's process", float64(p.GetMemory()), labels)
	for _, g := range p.GetGauges() {
		e.own(p.GetName(), g)
	}
	for _, h := range p.GetHistograms() {
		e.histogram(p.GetName(), h)
	}
}

// histogram passes a plugin's histogram on.
func (e emitter) histogram(plugin string, h *pluginpb.Histogram) {
	buckets := map[float64]uint64{}
	for i, bound := range h.GetBounds() {
		if i < len(h.GetCounts()) {
			buckets[bound] = h.GetCounts()[i]
		}
	}
	keys, values := labelled(plugin, h.GetLabels())
	help, ok := e.agree("ratchet_plugin_"+h.GetName(), h.GetHelp(), prometheus.UntypedValue)
	if !ok {
		return
	}
	desc := prometheus.NewDesc("ratchet_plugin_"+h.GetName(), help, keys, nil)
	if m, err := prometheus.NewConstHistogram(desc, h.GetCount(), h.GetSum(), buckets, values...); err == nil {
		e.out <- m
	}
}

// labelled are a plugin's labels with its name, sorted. They may not replace the one that says whose it is.
func labelled(plugin string, own map[string]string) (keys, values []string) {
	labels := map[string]string{}
	for k, v := range own {
		labels[k] = v
	}
	labels["plugin"] = plugin
	return sortedLabels(labels)
}

func sortedLabels(labels map[string]string) (keys, values []string) {
	for k := range labels {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		values = append(values, strings.ToValidUTF8(labels[k], "?"))
	}
	return keys, values
}

// own passes a plugin's gauge on.
func (e emitter) own(plugin string, g *pluginpb.Gauge) {
	keys, values := labelled(plugin, g.GetLabels())
	kind := prometheus.GaugeValue
	if g.GetCounter() {
		kind = prometheus.CounterValue
	}
	e.put("ratchet_plugin_"+g.GetName(), g.GetHelp(), kind, g.GetValue(), keys, values)
}

func (e emitter) gauge(name, help string, value float64, labels map[string]string) {
	e.sample(name, help, prometheus.GaugeValue, value, labels)
}

func (e emitter) sample(name, help string, kind prometheus.ValueType, value float64, labels map[string]string) {
	keys, values := sortedLabels(labels)
	e.put(name, help, kind, value, keys, values)
}

func (e emitter) put(name, help string, kind prometheus.ValueType, value float64, keys, values []string) {
	help, ok := e.agree(name, help, kind)
	if !ok {
		return
	}
	// A plugin's name for a gauge may be no name for Prometheus: then it is left out.
	m, err := prometheus.NewConstMetric(prometheus.NewDesc(name, help, keys, nil), kind, value, values...)
	if err == nil {
		e.out <- m
	}
}

// agree returns the help of a name. Two plugins may show a gauge of the same name; the first one's kind and help stand,
// because a scrape in which they differ is refused as a whole.
func (e emitter) agree(name, help string, kind prometheus.ValueType) (string, bool) {
	first, seen := e.kinds[name]
	if !seen {
		first = series{kind, help}
		e.kinds[name] = first
	}
	return first.help, first.kind == kind
}
