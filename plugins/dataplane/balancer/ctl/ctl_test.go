package ctl

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"text/tabwriter"

	"github.com/cockroachdb/datadriven"
	"github.com/spf13/cobra"

	"github.com/ratchetos/ratchet/plugins/dataplane/balancer/api"
)

// app stands for ratchetctl: it notes what is asked and answers from a list.
type app struct {
	out     *bytes.Buffer
	answers map[string]any
}

func (a app) Invoke(_ context.Context, plugin, method string, request, reply any) error {
	q, err := json.Marshal(request)
	if err != nil {
		return err
	}
	fmt.Fprintf(a.out, "%s %s %s\n", plugin, method, q)
	b, err := json.Marshal(a.answers[method])
	if err != nil {
		return err
	}
	return json.Unmarshal(b, reply)
}

func (a app) Print(_ any, columns []string, rows [][]string) error {
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{columns}, rows...) {
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	return w.Flush()
}

// TestCommands runs testdata/ctl.txt: each command with what it asks the plugin and what it shows.
func TestCommands(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "id.pem"), []byte("PEM"), 0o600); err != nil {
		t.Fatal(err)
	}
	answers := map[string]any{
		api.MethodVIPs: api.VIPsReply{VIPs: []api.VIP{{
			Name: "web", Address: "192.0.2.80", Protocol: "tcp", Ports: "80", Packets: 10, Bytes: 700, NewFlows: 3, Refused: 1,
			Backends: []api.Backend{
				{Name: "web1", Address: "10.0.0.1", State: "serving", Weight: 1, Limit: 5, Left: 2, Dispatched: 3, ReportAge: 0.25},
				{Name: "10.0.0.2", Address: "10.0.0.2", State: "down", Weight: 2, Limit: -1, Left: -1, ReportAge: -1, Why: "connection refused"},
			},
		}}},
		api.MethodFlows:   api.FlowsReply{Capacity: 65536, Opening: 1, Established: 2, Backends: []api.FlowBackend{{Name: "web1", Component: "web", HalfOpen: 1, Established: 2}}},
		api.MethodDrops:   api.DropsReply{Reasons: []api.Reason{{Reason: "no route", Dropped: true, Packets: 4}}},
		api.MethodPeers:   api.PeersReply{Active: "self", Peers: []api.Peer{{Name: "b", Alive: true, InStep: true, Sent: 7, LagMilli: 0.5}}},
		api.MethodCapture: api.CaptureReply{Packets: 2, PCAP: []byte("pcap")},
	}
	datadriven.RunTest(t, "testdata/ctl.txt", func(t *testing.T, d *datadriven.TestData) string {
		out := &bytes.Buffer{}
		root := &cobra.Command{Use: "dataplane", SilenceUsage: true, SilenceErrors: true}
		root.AddCommand(Command(app{out, answers})...)
		root.SetArgs(strings.Fields(strings.ReplaceAll(d.Input, "DIR", dir)))
		root.SetOut(out)
		if err := root.ExecuteContext(t.Context()); err != nil {
			fmt.Fprintf(out, "error: %v\n", err)
		}
		return strings.ReplaceAll(out.String(), dir, "DIR")
	})
}
