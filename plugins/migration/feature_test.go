package migration

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
	"github.com/ratchetos/ratchet/plugins/migration/api"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/hypervisortest"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/qmp"
)

// started is a feature with the latest event it reported, as core keeps it.
type started struct {
	t *testing.T
	*Feature
	events chan plugin.Event // holds the latest
}

func start(t *testing.T, section string) *started {
	t.Helper()
	return startFeature(t, New().(*Feature), section, &plugin.Session{})
}

func startFeature(t *testing.T, f *Feature, section string, session *plugin.Session) *started {
	t.Helper()
	s := &started{t: t, Feature: f, events: make(chan plugin.Event, 1)}
	if err := s.configure(section); err != nil {
		t.Fatal(err)
	}
	session.Log = slog.New(slog.DiscardHandler)
	session.Report = func(e plugin.Event) {
		select {
		case <-s.events:
		default:
		}
		s.events <- e
	}
	if err := s.Start(t.Context(), session); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(context.Background()); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	return s
}

func (s *started) configure(section string) error {
	return s.Configure(s.t.Context(), plugin.Section{JSON: []byte(section)})
}

// until waits for an event that pleases ok.
func (s *started) until(what string, ok func(e plugin.Event) bool) plugin.Event {
	s.t.Helper()
	timeout := time.After(20 * time.Second)
	var last plugin.Event
	for {
		select {
		case last = <-s.events:
			if last.Health != pluginpb.Event_OK {
				s.t.Errorf("health %v: a host must not make the plugin ill", last.Health)
			}
			if ok(last) {
				return last
			}
		case <-timeout:
			s.t.Fatalf("%s: timed out; last event %v", what, last)
		}
	}
}

func invoke[T any](s *started, method string, request any) (reply T) {
	s.t.Helper()
	body, _ := json.Marshal(request)
	out, err := s.Invoke(s.t.Context(), method, body)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := json.Unmarshal(out, &reply); err != nil {
		s.t.Fatal(err)
	}
	return reply
}

// cell returns a cell of a table by the first cell of its row and the name of its column.
func cell(e plugin.Event, table, first, column string) string {
	for _, tb := range e.Tables {
		if tb.Name != table {
			continue
		}
		for _, r := range tb.Rows {
			for i, c := range tb.Columns {
				if r.Cells[0] == first && c == column {
					return r.Cells[i]
				}
			}
		}
	}
	return ""
}

func TestHostsComeAndGo(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "a")
	// The follower holds the first monitor; the test plays the person at the second.
	qemu := hypervisortest.StartQEMU(t, socket, "-name", "web1", "-qmp", "unix:"+socket+"2,server=on,wait=off")
	s := start(t, fmt.Sprintf(`{"hosts": [{"name": "rack1", "qmp": "unix:%s"}, {"name": "rack2", "qmp": "unix:%s/nothing"}]}`, socket, dir))

	e := s.until("rack1 up, rack2 away", func(e plugin.Event) bool {
		return cell(e, "hosts", "rack1", "STATE") == "up" && cell(e, "hosts", "rack2", "STATE") == "away"
	})
	if got := cell(e, "hosts", "rack2", "PROBLEM"); !strings.Contains(got, "no such file") {
		t.Errorf("rack2's problem is %q", got)
	}
	if e.Message != "1 of 2 hosts away: rack2" {
		t.Errorf("message %q", e.Message)
	}
	if got := cell(e, "vms", "web1", "DEVICES"); got != "1 other, 1 disk, 1 nic" {
		t.Errorf("devices %q", got)
	}
	if vms := invoke[api.VMsReply](s, api.MethodVMs, nil).VMs; len(vms) != 1 || vms[0].Memory != 32<<20 || vms[0].Host != "rack1" {
		t.Errorf("VMs %+v", vms)
	}

	// An event of the VM reaches the table without anybody asking.
	person, err := qmp.Dial(t.Context(), "unix", socket+"2", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer person.Close()
	if err := person.Do(t.Context(), "cont", nil, nil); err != nil {
		t.Fatal(err)
	}
	s.until("web1 running", func(e plugin.Event) bool { return cell(e, "vms", "web1", "STATE") == "running" })
	vm := invoke[api.VMReply](s, api.MethodVM, api.VMRequest{Name: "web1"})
	if len(vm.Events) == 0 || vm.Events[len(vm.Events)-1].Name != "RESUME" {
		t.Errorf("events %+v", vm.Events)
	}

	qemu.Kill()
	s.until("rack1 away", func(e plugin.Event) bool {
		return cell(e, "hosts", "rack1", "STATE") == "away" && cell(e, "vms", "web1", "STATE") == ""
	})
	hypervisortest.StartQEMU(t, socket, "-name", "web1")
	s.until("rack1 back", func(e plugin.Event) bool {
		return cell(e, "hosts", "rack1", "STATE") == "up" && cell(e, "vms", "web1", "STATE") == "starting"
	})
}

func TestReloadKeepsUnchangedHosts(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "a")
	hypervisortest.StartQEMU(t, socket)
	one := fmt.Sprintf(`{"name": "rack1", "qmp": "unix:%s"}`, socket)
	s := start(t, `{"hosts": [`+one+`]}`)
	isUp := func(e plugin.Event) bool { return cell(e, "hosts", "rack1", "STATE") == "up" }
	s.until("rack1 up", isUp)
	before := invoke[api.HostsReply](s, api.MethodHosts, nil).Hosts[0]
	if before.Name != "rack1" || before.State != "up" || before.VMs != 1 {
		t.Errorf("host %+v", before)
	}
	if err := s.configure(`{"hosts": [{"name": "new", "qmp": "tcp:127.0.0.1:1"}, ` + one + `]}`); err != nil {
		t.Fatal(err)
	}
	s.until("new is away", func(e plugin.Event) bool { return cell(e, "hosts", "new", "STATE") == "away" })
	after := invoke[api.HostsReply](s, api.MethodHosts, nil).Hosts
	if len(after) != 2 || after[0].Name != "new" || !after[1].Since.Equal(before.Since) {
		t.Errorf("after reload %+v, want rack1 up since %v", after, before.Since)
	}
	if err := s.configure(`{"hosts": []}`); err != nil {
		t.Fatal(err)
	}
	s.until("no hosts", func(e plugin.Event) bool { return len(e.Tables[0].Rows) == 0 })
	if err := s.configure(`{"hosts": [{"name": "x", "qmp": "nonsense"}]}`); err == nil {
		t.Error("a wrong address was taken")
	}
}

func TestValidateReportsAllAtOnce(t *testing.T) {
	v := New().Validate(t.Context(), plugin.Section{JSON: []byte(`{"hosts": [
		{"name": "a", "qmp": "tcp:h:4444"}, {"name": "a", "qmp": "tcp:h:4444"}, {"qmp": "udp:h:1"}, {"name": "c"}, {"name": "d", "qmp": "unix:/x", "colour": 1}]}`)})
	var got []string
	for _, d := range v.Diagnostics {
		got = append(got, d.Path)
	}
	for _, want := range []string{"hosts[1].name", "hosts[1].qmp", "hosts[2].name", "hosts[2].qmp", "hosts[3]", "hosts[4].colour"} {
		if !strings.Contains(strings.Join(got, " "), want) {
			t.Errorf("nothing said about %s; only %q", want, got)
		}
	}
	if len(v.Wants) != 0 {
		t.Errorf("wants %v of core", v.Wants)
	}
}

func TestVMReply(t *testing.T) {
	rows := func(hosts ...string) (list []row) {
		for _, h := range hosts {
			r := row{conf: HostConfig{Name: h}}
			r.state = up
			r.vms = append(r.vms, hypervisor.VM{Name: "web"})
			list = append(list, r)
		}
		return list
	}
	gone := row{conf: HostConfig{Name: "c"}}
	gone.state = away
	for _, tc := range []struct {
		rows []row
		req  api.VMRequest
		want string
	}{
		{rows("a"), api.VMRequest{Name: "web"}, ""},
		{rows("a", "b"), api.VMRequest{Name: "web"}, "2 hosts"},
		{rows("a", "b"), api.VMRequest{Name: "web", Host: "b"}, ""},
		{rows("a"), api.VMRequest{Name: "db"}, "lists them"},
		{append(rows("a"), gone), api.VMRequest{Name: "db"}, "away: c"},
	} {
		_, err := vmReply(tc.rows, tc.req)
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%+v: %v, want %q", tc.req, err, tc.want)
		}
	}
}
