package schedule

import (
	"strings"
	"time"

	"github.com/ratchetos/ratchet/core/config/strict"
)

// Watch is where a load comes from: a page of metrics, or the agent of a host.
type Watch struct {
	Metrics string          `json:"metrics,omitempty" jsonschema:"description=page of Prometheus metrics, as http://switch:9100/metrics"`
	Metric  string          `json:"metric,omitempty" jsonschema:"description=metric with its labels, as node_network_transmit_bytes_total{device=\"eth0\"}; a counter if its name ends in _total"`
	Free    bool            `json:"free,omitempty" jsonschema:"description=the metric says what is left, as node_memory_MemAvailable_bytes, not what is used"`
	Host    string          `json:"host,omitempty" jsonschema:"description=of a link, host whose agent counts what one of its NICs carries"`
	NIC     string          `json:"nic,omitempty" jsonschema:"description=with host, the NIC, as eth0"`
	Every   strict.Duration `json:"every,omitempty" config:"min=1s,max=1h" jsonschema:"description=how often it is read (default 30s)"`
}

// Watched says whether a load is read at all.
func (w Watch) Watched() bool { return w.Metrics != "" || w.Host != "" }

// Interval is how often.
func (w Watch) Interval() time.Duration {
	if w.Every == 0 {
		return 30 * time.Second
	}
	return time.Duration(w.Every)
}

// checkLink is for the load of a link.
func (w Watch) checkLink(problem func(field, text string)) {
	switch {
	case w.Metrics != "" && w.Host != "":
		problem("", "give metrics or host, not both")
	case w.Host != "" && w.NIC == "":
		problem(".nic", "is missing: which NIC of the host is on the link?")
	case w.Host == "" && w.NIC != "":
		problem(".host", "is missing: whose NIC is it?")
	}
	w.checkPage(problem)
}

// checkOwn is for the load of a host, whose agent is known.
func (w Watch) checkOwn(problem func(field, text string)) {
	if w.Host != "" || w.NIC != "" {
		problem("", "host and nic are for links: a host is watched through its own agent")
	}
	w.checkPage(problem)
}

func (w Watch) checkPage(problem func(field, text string)) {
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
	case w.Free:
		problem(".free", "is for a metric: name it")
	}
}
