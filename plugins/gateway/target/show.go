package target

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
	"github.com/ratchetos/ratchet/plugins/gateway/target/nbdlink"
)

// States of an export, for people.
const (
	stateWaiting      = "waiting"
	stateExported     = "exported"
	stateReconnecting = "reconnecting"
	stateFailed       = "failed"
)

// show reports how the exports are.
func (s *service) show() {
	s.mu.Lock()
	defer s.mu.Unlock()
	table := &pluginpb.Table{Name: "exports", Columns: []string{"volume", "protocol", "name", "portals", "state", "device", "identity", "message"}}
	e := &pluginpb.Event{Message: fmt.Sprintf("%d exports", len(s.list)), Tables: []*pluginpb.Table{table}}
	for _, x := range s.list {
		state, device, message := stateWaiting, "-", ""
		up := 0.0
		if k := s.keepers[x.Volume]; k != nil {
			index, live, _, problem := k.status()
			if index >= 0 {
				device = nbdlink.Device(index)
			}
			if problem != nil {
				message = problem.Error()
			}
			unsure, refused := s.unsure[x.Volume], cmp.Or(s.failed[x.Volume], s.problem)
			switch {
			case unsure != nil:
				message = withoutReservations(x.Volume, s.done[x.Volume], unsure)
			case refused != nil:
				message = "the kernel does not have it as configured: " + refused.Error()
			}
			switch {
			case index < 0:
			case !s.done[x.Volume] && (unsure != nil || refused != nil):
				state = stateFailed
			case !s.done[x.Volume]:
			case live:
				state, up = stateExported, 1
			default:
				state = stateReconnecting
			}
		}
		if state != stateExported || message != "" {
			e.Health, e.Message = pluginpb.Event_DEGRADED, fmt.Sprintf("volume %s is %s: %s", x.Volume, state, message)
		}
		var portals []string
		for _, p := range x.Portals {
			portals = append(portals, p.String())
		}
		table.Rows = append(table.Rows, &pluginpb.Row{Cells: []string{
			x.Volume, string(x.Protocol), x.Name, strings.Join(portals, " "), state, device, x.Identity(), message,
		}})
		e.Gauges = append(e.Gauges, &pluginpb.Gauge{
			Name: "export_up", Help: "1 while clients can use the export", Value: up,
			Labels: map[string]string{"volume": x.Volume, "protocol": string(x.Protocol)},
		})
	}
	s.report(e)
}
