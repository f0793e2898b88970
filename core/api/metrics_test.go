package api_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

func TestMetrics(t *testing.T) {
	b := start(t)
	local := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", b.Socket)
	}}}
	defer local.CloseIdleConnections()
	reply, err := local.Get("http://ratchet/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Body.Close()
	body, err := io.ReadAll(reply.Body)
	if err != nil || reply.StatusCode != http.StatusOK {
		t.Fatalf("scrape: %s, %v\n%s", reply.Status, err, body)
	}
	for _, want := range []string{
		`ratchet_released 1`, `ratchet_counter 42`,
		`ratchet_plugin_dirty_bytes{plugin="gateway",volume="demo"} 1.2582912e+07`,
		`ratchet_plugin_restarts_total{plugin="dataplane"} 1`,
		`ratchet_plugin_state{plugin="dataplane",state="degraded"} 1`,
		"# TYPE ratchet_plugin_request_seconds histogram\nratchet_plugin_request_seconds_bucket{plugin=\"gateway\",request=\"read\",le=\"0.001\"} 3\n",
		`ratchet_plugin_request_seconds_bucket{plugin="gateway",request="read",le="+Inf"} 6`,
		"# TYPE ratchet_plugin_requests_total counter\nratchet_plugin_requests_total{plugin=\"gateway\"} 7\n",
	} {
		if !strings.Contains(string(body), want) {
			t.Errorf("metrics lack %s:\n%s", want, body)
		}
	}
}
