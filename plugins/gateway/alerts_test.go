package gateway

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/ratchetos/ratchet/plugins/gateway/api"
	"github.com/ratchetos/ratchet/plugins/gateway/nbd"
)

// TestAlerts runs testdata/alerts.txt: volumes as they say they are, and what an operator is told.
func TestAlerts(t *testing.T) {
	datadriven.RunTest(t, "testdata/alerts.txt", func(t *testing.T, d *datadriven.TestData) string {
		var out strings.Builder
		var all []alert
		for line := range strings.Lines(d.Input) {
			var v api.Volume
			if err := json.Unmarshal([]byte(line), &v); err != nil {
				t.Fatal(err)
			}
			all = append(all, alertsOf(v)...)
		}
		for _, r := range alertTable(mostUrgent(all)).GetRows() {
			fmt.Fprintln(&out, strings.Join(r.GetCells(), " | "))
		}
		return out.String()
	})
}

// TestHistogram: the buckets that are shown add up, and the last bound leaves what took longer to the count.
func TestHistogram(t *testing.T) {
	c := nbd.OpCount{Ops: 7, Bytes: 7 << 12}
	c.Latency[0], c.Latency[1], c.Latency[2], c.Latency[nbd.Buckets-1] = 1, 2, 3, 1
	list := histograms("demo", nbd.Snapshot{Read: c})
	if len(list) != 1 {
		t.Fatalf("%d histograms of one command", len(list))
	}
	h := list[0]
	if h.GetCount() != 7 || h.GetCounts()[0] != 1 || h.GetCounts()[1] != 6 || h.GetBounds()[1] != 4e-6 || h.GetCounts()[len(h.GetCounts())-1] != 6 {
		t.Errorf("%v", h)
	}
}
