package core

import (
	"context"
	"fmt"
	"time"

	"github.com/ratchetos/ratchet/core/api"
	"github.com/ratchetos/ratchet/core/api/apipb"
	"github.com/ratchetos/ratchet/core/network"
)

// followEvery is how often a followed log is looked at; the ring keeps 1,000 lines in between.
const followEvery = 200 * time.Millisecond

// Plugins implements api.Backend.
func (b backend) Plugins(context.Context) ([]*apipb.Plugin, error) {
	b.a.mu.Lock()
	c := b.a.config
	b.a.mu.Unlock()
	var out []*apipb.Plugin
	for _, p := range b.a.host.Status() {
		x := &apipb.Plugin{
			Name: p.Name, Summary: p.Summary, State: p.State, Version: p.Version, Generation: p.Generation,
			Restarts: uint32(p.Restarts), SinceUnixMs: p.Since.UnixMilli(), Pid: int32(p.PID), Memory: p.RSS,
			Health: p.Health, Message: p.Message, Tables: p.Tables, Gauges: p.Gauges, Jobs: p.Jobs, Histograms: p.Histograms, Methods: p.Methods,
			Spare: p.Spare,
		}
		if c != nil {
			if section, ok := c.Plugins[p.Name]; ok {
				x.MemoryLimit = uint64(section.Grant.Memory)
			}
		}
		out = append(out, x)
	}
	return out, nil
}

// known turns "no such plugin" into the API's error.
func (b backend) known(name string) error {
	for _, p := range b.a.host.Status() {
		if p.Name == name {
			return nil
		}
	}
	return fmt.Errorf("%w: there is no plugin %q; see ratchetctl plugin list", api.ErrNotFound, name)
}

// RestartPlugin implements api.Backend.
func (b backend) RestartPlugin(ctx context.Context, name string, kill bool) error {
	if err := b.known(name); err != nil {
		return err
	}
	if b.a.report != nil && !b.a.released() {
		return fmt.Errorf("%w: %s", api.ErrNotReleased, b.a.report.Box.Reason)
	}
	if kill {
		return b.a.host.Kill(ctx, name)
	}
	return b.a.host.Restart(ctx, name)
}

// PluginLogs implements api.Backend.
func (b backend) PluginLogs(ctx context.Context, name string, tail int, follow bool, emit func(*apipb.LogLine) error) error {
	if name == api.AuditTrail {
		return b.auditTrail(tail, emit)
	}
	if err := b.known(name); err != nil {
		return err
	}
	var last time.Time
	for {
		lines, err := b.a.host.Logs(name, tail)
		if err != nil {
			return err
		}
		for _, l := range lines {
			if !l.Time.After(last) {
				continue
			}
			last = l.Time
			if err := emit(&apipb.LogLine{UnixNs: l.Time.UnixNano(), Text: l.Text}); err != nil {
				return err
			}
		}
		if !follow {
			return nil
		}
		tail = 0
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(followEvery):
		}
	}
}

func (b backend) auditTrail(tail int, emit func(*apipb.LogLine) error) error {
	lines, err := b.a.audit.Lines(tail)
	if err != nil {
		return err
	}
	for _, l := range lines {
		if err := emit(&apipb.LogLine{UnixNs: l.Time.UnixNano(), Text: l.Text}); err != nil {
			return err
		}
	}
	return nil
}

// Invoke implements api.Backend.
func (b backend) Invoke(ctx context.Context, name, method string, request []byte, caller string) ([]byte, error) {
	if err := b.known(name); err != nil {
		return nil, err
	}
	return b.a.host.Invoke(ctx, name, method, request, caller)
}

func networkStatus(s network.Status) *apipb.NetworkStatus {
	out := &apipb.NetworkStatus{Nic: s.NIC, State: "up"}
	switch {
	case s.Problem != "":
		out.State = s.Problem
	case !s.Carrier:
		out.State = "no carrier"
	case len(s.Addresses) == 0:
		out.State = "waiting for an address"
	}
	for _, p := range s.Addresses {
		out.Addresses = append(out.Addresses, p.String())
	}
	for _, g := range s.Gateway {
		out.Gateways = append(out.Gateways, g.String())
	}
	for _, d := range s.DNS {
		out.Dns = append(out.Dns, d.String())
	}
	return out
}
