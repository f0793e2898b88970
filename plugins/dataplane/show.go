package dataplane

import (
	"strconv"
	"strings"

	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
	"github.com/ratchetos/ratchet/plugins/dataplane/api"
)

// event is what the plugin shows on page, console and metrics.
func (k *keeper) event() plugin.Event {
	e := &pluginpb.Event{Health: pluginpb.Event_OK}
	table := &pluginpb.Table{Name: "links", Columns: []string{"LINK", "NIC", "CARRIER", "MTU", "ADDRESSES", "RX BYTES", "TX BYTES", "PROBLEM"}}
	var problems []string
	for _, l := range k.show() {
		carrier := "down"
		if l.Carrier {
			carrier = "up"
		}
		if l.Problem != "" {
			problems = append(problems, l.Problem)
		}
		table.Rows = append(table.Rows, &pluginpb.Row{Cells: []string{
			l.Name, l.NIC, carrier, strconv.FormatUint(uint64(l.MTU), 10), strings.Join(l.Addresses, " "),
			strconv.FormatUint(l.RxBytes, 10), strconv.FormatUint(l.TxBytes, 10), l.Problem,
		}})
		e.Gauges = append(e.Gauges, gauges(l)...)
	}
	e.Tables = []*pluginpb.Table{table}
	if len(problems) > 0 {
		e.Health, e.Message = pluginpb.Event_DEGRADED, strings.Join(problems, "; ")
	}
	return e
}

func gauges(l api.Link) []*pluginpb.Gauge {
	labels := map[string]string{"link": l.Name, "nic": l.NIC}
	carrier := 0.0
	if l.Carrier {
		carrier = 1
	}
	out := []*pluginpb.Gauge{{Name: "link_carrier", Help: "1 while the link has carrier", Value: carrier, Labels: labels}}
	for _, c := range []struct {
		name, help string
		value      uint64
	}{
		{"link_rx_bytes_total", "bytes received", l.RxBytes},
		{"link_tx_bytes_total", "bytes transmitted", l.TxBytes},
		{"link_rx_packets_total", "packets received", l.RxPackets},
		{"link_tx_packets_total", "packets transmitted", l.TxPackets},
		{"link_rx_errors_total", "packets received in error", l.RxErrors},
		{"link_tx_errors_total", "packets that could not be transmitted", l.TxErrors},
		{"link_rx_dropped_total", "packets dropped on receive", l.RxDropped},
		{"link_tx_dropped_total", "packets dropped on transmit", l.TxDropped},
	} {
		out = append(out, &pluginpb.Gauge{Name: c.name, Help: c.help, Value: float64(c.value), Labels: labels, Counter: true})
	}
	return out
}

// show lists the links as the management calls do.
func (k *keeper) show() []api.Link {
	out := make([]api.Link, 0, len(k.links))
	for _, l := range k.links {
		a := api.Link{NIC: l.handle.ID, Name: l.desired.Name, Present: l.present}
		if l.err != nil {
			a.Problem = l.err.Error()
		}
		if l.present {
			o := l.observed
			a.Name, a.Up, a.Carrier, a.MTU = o.Name, o.Up, o.Carrier, o.MTU
			for _, p := range o.Addresses {
				a.Addresses = append(a.Addresses, p.String())
			}
			for _, r := range o.Routes {
				a.Routes = append(a.Routes, r.String())
			}
			c := o.Counters
			a.RxBytes, a.TxBytes, a.RxPackets, a.TxPackets = c.RxBytes, c.TxBytes, c.RxPackets, c.TxPackets
			a.RxErrors, a.TxErrors, a.RxDropped, a.TxDropped = c.RxErrors, c.TxErrors, c.RxDropped, c.TxDropped
		}
		out = append(out, a)
	}
	return out
}
