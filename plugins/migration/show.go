package migration

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
	"github.com/ratchetos/ratchet/plugins/migration/api"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
)

// event is what the plugin shows on page, console and metrics. It is always healthy: what is wrong with a host or a move
// is in its row and in the message. It is called with mu held.
func (f *Feature) event() plugin.Event {
	rows := f.rows()
	e := &pluginpb.Event{Health: pluginpb.Event_OK}
	gone := showHosts(e, rows)
	showVMs(e, rows)
	held := 0
	if f.moves != nil {
		moves := f.moves.all()
		held = showMoves(e, moves)
		f.moves.tally.count(moves)
		f.moves.tally.show(e)
		if s := f.moves.schedule; s != nil {
			showLoads(e, s.Loads())
		}
	}
	var message []string
	if len(gone) > 0 {
		message = append(message, fmt.Sprintf("%d of %d hosts away: %s", len(gone), len(rows), strings.Join(gone, ", ")))
	}
	if held > 0 {
		message = append(message, fmt.Sprintf("%d moves wait for an operator: ratchetctl migrate status", held))
	}
	e.Message = strings.Join(message, "; ")
	return e
}

func showHosts(e *pluginpb.Event, rows []row) (gone []string) {
	hosts := &pluginpb.Table{Name: "hosts", Columns: []string{"HOST", "STATE", "SINCE", "HYPERVISOR", "VMS", "PROBLEM"}}
	for _, r := range rows {
		h := hostOf(r)
		// The time, not the age: an event stands until the next one.
		hosts.Rows = append(hosts.Rows, &pluginpb.Row{Cells: []string{
			h.Name, h.State, h.Since.Format(time.RFC3339), h.Hypervisor, strconv.Itoa(h.VMs), h.Problem,
		}})
		reached := 0.0
		if r.state == up {
			reached = 1
		}
		if r.state == away {
			gone = append(gone, h.Name)
		}
		labels := map[string]string{"host": h.Name}
		e.Gauges = append(e.Gauges,
			&pluginpb.Gauge{Name: "migration_host_up", Help: "1 while the host answers", Value: reached, Labels: labels},
			&pluginpb.Gauge{Name: "migration_host_vms", Help: "VMs of the host", Value: float64(h.VMs), Labels: labels})
	}
	e.Tables = append(e.Tables, hosts)
	return gone
}

func showVMs(e *pluginpb.Event, rows []row) {
	vms := &pluginpb.Table{Name: "vms", Columns: []string{"VM", "HOST", "STATE", "VCPUS", "MEMORY", "DEVICES"}}
	for _, vm := range vmsReply(rows).VMs {
		vms.Rows = append(vms.Rows, &pluginpb.Row{Cells: []string{
			vm.Name, vm.Host, vm.State, strconv.Itoa(vm.VCPUs), size(vm.Memory), devices(vm.Devices),
		}})
	}
	e.Tables = append(e.Tables, vms)
}

func hostOf(r row) api.Host {
	h := api.Host{
		Name: r.conf.Name, Address: r.conf.address(), State: string(r.state), Since: r.since, Moves: r.conf.moves(),
		VMs: len(r.vms), Problem: r.problem,
	}
	if len(r.vms) > 0 {
		h.Hypervisor = r.vms[0].Hypervisor
	}
	return h
}

func hostsReply(rows []row) api.HostsReply {
	reply := api.HostsReply{Hosts: make([]api.Host, 0, len(rows))}
	for _, r := range rows {
		reply.Hosts = append(reply.Hosts, hostOf(r))
	}
	return reply
}

func vmsReply(rows []row) api.VMsReply {
	reply := api.VMsReply{VMs: []api.VM{}}
	for _, r := range rows {
		for _, vm := range r.vms {
			reply.VMs = append(reply.VMs, vmOf(r.conf.Name, vm))
		}
	}
	return reply
}

func vmOf(host string, vm hypervisor.VM) api.VM {
	out := api.VM{
		Name: vm.Name, Host: host, UUID: vm.UUID, State: string(vm.State), Detail: vm.Detail,
		VCPUs: vm.VCPUs, MaxVCPUs: vm.MaxVCPUs, Memory: vm.Memory,
	}
	for _, d := range vm.Devices {
		out.Devices = append(out.Devices, api.Device{ID: d.ID, Model: d.Model, Kind: string(d.Kind), Backing: d.Backing})
	}
	return out
}

func vmReply(rows []row, req api.VMRequest) (api.VMReply, error) {
	var found []api.VMReply
	var gone []string
	for _, r := range rows {
		if req.Host != "" && r.conf.Name != req.Host {
			continue
		}
		if r.state != up {
			gone = append(gone, r.conf.Name)
		}
		for _, vm := range r.vms {
			if vm.Name != req.Name {
				continue
			}
			reply := api.VMReply{VM: vmOf(r.conf.Name, vm)}
			for _, e := range r.events {
				if e.VM == vm.Name {
					reply.Events = append(reply.Events, api.Event{Time: e.Time, Name: e.Name, Detail: e.Detail})
				}
			}
			found = append(found, reply)
		}
	}
	// While it moves it is on two hosts, and a moment after.
	lives := slices.DeleteFunc(slices.Clone(found), func(r api.VMReply) bool { return r.State != string(hypervisor.Running) })
	switch {
	case len(lives) == 1:
		return lives[0], nil
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return api.VMReply{}, fmt.Errorf("VM %q is on %d hosts: name the host, too", req.Name, len(found))
	case len(gone) > 0:
		return api.VMReply{}, fmt.Errorf("no VM %q on the hosts that answer; away: %s", req.Name, strings.Join(gone, ", "))
	}
	return api.VMReply{}, fmt.Errorf("no VM %q; `ratchetctl migrate vms` lists them", req.Name)
}

// devices counts devices by kind: "2 disk, 1 nic".
func devices(list []api.Device) string {
	var kinds []string
	count := map[string]int{}
	for _, d := range list {
		if count[d.Kind]++; count[d.Kind] == 1 {
			kinds = append(kinds, d.Kind)
		}
	}
	for i, k := range kinds {
		kinds[i] = fmt.Sprintf("%d %s", count[k], k)
	}
	return strings.Join(kinds, ", ")
}

// size writes bytes in the largest binary unit that leaves a whole number.
func size(n uint64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	u := 0
	for n >= 1024 && n%1024 == 0 && u < len(units)-1 {
		n /= 1024
		u++
	}
	return fmt.Sprintf("%d %s", n, units[u])
}
