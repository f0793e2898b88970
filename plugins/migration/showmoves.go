package migration

import (
	"fmt"
	"strconv"

	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
	"github.com/ratchetos/ratchet/plugins/migration/api"
	"github.com/ratchetos/ratchet/plugins/migration/schedule/draw"
)

// shownMoves bounds the ended moves of the table; `ratchetctl migrate history` has more.
const shownMoves = 5

// showMoves adds moves as a table, those under way as jobs, and what became of all as metrics. It returns how many wait
// for an operator.
func showMoves(e *pluginpb.Event, moves []api.Move) (held int) {
	table := &pluginpb.Table{Name: "moves", Columns: []string{"MOVE", "VM", "FROM", "TO", "STATE", "STEP", "GAP", "PROBLEM"}}
	counts := map[string]float64{}
	var ended []*pluginpb.Row
	under := 0.0
	for _, m := range moves {
		counts[m.State]++
		row := &pluginpb.Row{Cells: []string{
			m.ID, m.VM, m.From, m.To, m.State, strconv.Itoa(m.Step) + "/" + strconv.Itoa(m.Steps), gapOf(m), m.Problem,
		}}
		switch {
		case !m.Ended.IsZero():
			ended = append(ended, row)
			continue
		case m.State == stateHeld:
			held++
		case m.State != stateWaiting && m.State != stateScheduled:
			under++
			if m.Total > 0 {
				e.Jobs = append(e.Jobs, &pluginpb.Job{
					Name: fmt.Sprintf("move %s to %s", m.VM, m.To), Done: m.Total - min(m.Remaining, m.Total), Total: m.Total, Unit: "B",
				})
			}
			e.Gauges = append(e.Gauges, transferGauges(m)...)
		}
		table.Rows = append(table.Rows, row)
	}
	table.Rows = append(table.Rows, ended[max(0, len(ended)-shownMoves):]...)
	e.Tables = append(e.Tables, table)
	e.Gauges = append(e.Gauges,
		&pluginpb.Gauge{Name: "migration_moves_under_way", Help: "moves under way", Value: under},
		&pluginpb.Gauge{Name: "migration_moves_held", Help: "moves that wait for an operator", Value: float64(held)},
		&pluginpb.Gauge{Name: "migration_moves_waiting", Help: "orders that have not begun", Value: counts[stateWaiting] + counts[stateScheduled]})
	return held
}

// showLoads adds what others use of links and hosts.
func showLoads(e *pluginpb.Event, loads []draw.Link) {
	for _, l := range loads {
		labels := map[string]string{"resource": l.Name, "unit": string(l.Unit)}
		e.Gauges = append(e.Gauges,
			&pluginpb.Gauge{Name: "migration_watched_load", Help: "what others than moves use of a link, or of a host's processors or memory", Value: *l.Load, Labels: labels},
			&pluginpb.Gauge{Name: "migration_watched_capacity", Help: "how much there is of a link, or of a host's processors or memory", Value: l.Capacity, Labels: labels})
	}
}

// transferGauges are those of one move under way.
func transferGauges(m api.Move) []*pluginpb.Gauge {
	labels := map[string]string{"vm": m.VM, "from": m.From, "to": m.To}
	gauge := func(name, help string, value float64) *pluginpb.Gauge {
		return &pluginpb.Gauge{Name: name, Help: help, Value: value, Labels: labels}
	}
	return []*pluginpb.Gauge{
		gauge("migration_transferred_bytes", "bytes sent by the transfer under way", float64(m.Sent)),
		gauge("migration_remaining_bytes", "bytes that the transfer under way has still to send", float64(m.Remaining)),
		gauge("migration_dirty_bytes_per_second", "how fast the guest writes to its memory", m.DirtyRate),
	}
}

func gapOf(m api.Move) string {
	if m.Gap == 0 {
		return ""
	}
	return strconv.FormatInt(m.Gap.Milliseconds(), 10) + " ms"
}
