package ctl_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/api"
	"github.com/ratchetos/ratchet/plugins/migration/ctl"
)

// app answers calls from a table and prints as text.
type app struct {
	replies map[string]any
	out     bytes.Buffer
	request []byte
}

func (a *app) Invoke(_ context.Context, plugin, method string, request, reply any) error {
	r, ok := a.replies[plugin+" "+method]
	if !ok {
		return fmt.Errorf("%s has no %s", plugin, method)
	}
	a.request, _ = json.Marshal(request)
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, reply)
}

func (a *app) Print(_ any, columns []string, rows [][]string) error {
	for _, r := range append([][]string{columns}, rows...) {
		if len(r) != len(columns) {
			return fmt.Errorf("row %q does not fit columns %q", r, columns)
		}
		fmt.Fprintln(&a.out, strings.TrimRight(strings.Join(r, "|"), "|"))
	}
	return nil
}

func TestCommands(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	vm := api.VM{
		Name: "web1", Host: "rack1", State: "paused", Detail: "paused", VCPUs: 1, MaxVCPUs: 4, Memory: 256 << 20,
		Devices: []api.Device{{ID: "d0", Model: "virtio-blk-pci", Kind: "disk", Backing: "/img"}},
	}
	replies := map[string]any{
		"migration hosts.list": api.HostsReply{Hosts: []api.Host{{Name: "rack1", State: "away", Since: at, Problem: "refused"}}},
		"migration vms.list":   api.VMsReply{VMs: []api.VM{vm}},
		"migration vms.show":   api.VMReply{VM: vm, Events: []api.Event{{Time: at, Name: "STOP"}}},
	}
	for _, tc := range []struct{ args, want, request string }{
		{"hosts", "HOST|STATE|SINCE|HYPERVISOR|VMS|PROBLEM\nrack1|away|2026-01-02T03:04:05Z||0|refused\n", "{}"},
		{"vms", "VM|HOST|STATE|VCPUS|MEMORY MIB|DEVICES\nweb1|rack1|paused|1/4|256|1\n", "{}"},
		{"show web1 --host rack1", "WHAT|VALUE|DETAIL\nvm|web1\nhost|rack1\nstate|paused|paused\nvcpus|1|of 4\nmemory|256 MiB\n" +
			"disk|virtio-blk-pci d0|/img\nevent|2026-01-02T03:04:05Z|STOP \n", `{"name":"web1","host":"rack1"}`},
	} {
		a := &app{replies: replies}
		c := ctl.Command(a)
		c.SetArgs(strings.Fields(tc.args))
		if err := c.ExecuteContext(t.Context()); err != nil {
			t.Errorf("%s: %v", tc.args, err)
		}
		if a.out.String() != tc.want || string(a.request) != tc.request {
			t.Errorf("%s: asked %s and printed\n%swant %s and\n%s", tc.args, a.request, a.out.String(), tc.request, tc.want)
		}
	}
	c := ctl.Command(&app{})
	c.SetArgs([]string{"show"})
	c.SilenceErrors, c.SilenceUsage = true, true
	if err := c.Execute(); err == nil {
		t.Error("show without a VM succeeded")
	}
}
