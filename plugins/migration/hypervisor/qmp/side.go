package qmp

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/vmhost/client"
)

// Objects that a transfer needs in a QEMU.
const (
	serverCredentials = "move-server"
	clientCredentials = "move-client"
	sourceOnly        = "move-source"
)

// Capabilities of a transfer (invariant M1). All others are turned off by name: they stay in a QEMU that was a
// destination before.
var always = []string{"events", "return-path", "pause-before-switchover", "late-block-activate"}

// capabilities turns on those of always and more, and everything else off.
func (p *Port) capabilities(ctx context.Context, vm string, more ...string) error {
	type capability struct {
		Name string `json:"capability"`
		On   bool   `json:"state"`
	}
	var list []capability
	if err := p.do(ctx, vm, "query-migrate-capabilities", nil, &list); err != nil {
		return err
	}
	for i := range list {
		list[i].On = slices.Contains(always, list[i].Name) || slices.Contains(more, list[i].Name)
	}
	return p.do(ctx, vm, "migrate-set-capabilities", map[string]any{"capabilities": list}, nil)
}

// object makes one anew: an earlier transfer may have left it with other properties.
func (p *Port) object(ctx context.Context, vm string, o map[string]any) error {
	err := p.do(ctx, vm, "object-del", map[string]any{"id": o["id"]}, nil)
	var refused *Error
	if err != nil && !errors.As(err, &refused) {
		return err
	}
	return p.do(ctx, vm, "object-add", o, nil)
}

// credentials readies one end of the streams: the certificate of this host, and at the destination who may come
// (invariant M4). A stranger's connection is refused before the migration has heard of it.
func (p *Port) credentials(ctx context.Context, m hypervisor.Move, info client.Host, server bool) (params map[string]any, err error) {
	params = map[string]any{"tls-creds": "", "tls-hostname": "", "tls-authz": ""}
	if p.conf.Plain {
		return params, nil
	}
	id, end := clientCredentials, "client"
	if server {
		id, end = serverCredentials, "server"
	}
	err = p.object(ctx, m.VM, map[string]any{"qom-type": "tls-creds-x509", "id": id, "dir": info.Credentials, "endpoint": end, "verify-peer": true})
	if err != nil {
		return nil, err
	}
	params["tls-creds"] = id
	if !server {
		params["tls-hostname"] = m.To
		return params, nil
	}
	params["tls-authz"] = sourceOnly
	return params, p.object(ctx, m.VM, map[string]any{"qom-type": "authz-simple", "id": sourceOnly, "identity": "CN=" + m.From})
}

const (
	unlimited       = 1 << 40 // bytes a second
	defaultDowntime = 300 * time.Millisecond
	// leastThrottle is what auto-converge holds a guest back by when nobody asked for it: its capability cannot be turned
	// on during a transfer, and its ceiling can be raised.
	leastThrottle   = 1
	firstThrottle   = 20
	throttleStep    = 10
	throttleTrigger = 50
)

// limits are the parameters for Limits.
func limits(l hypervisor.Limits) map[string]any {
	bandwidth := l.Told()
	if bandwidth == 0 {
		bandwidth = unlimited
	}
	downtime := l.Downtime
	if downtime == 0 {
		downtime = defaultDowntime
	}
	ceiling := min(max(l.Throttle, leastThrottle), 99)
	return map[string]any{
		"max-bandwidth": bandwidth, "max-postcopy-bandwidth": l.Rest, "downtime-limit": max(1, downtime.Milliseconds()),
		"max-cpu-throttle": ceiling, "cpu-throttle-initial": min(firstThrottle, ceiling), "cpu-throttle-increment": min(throttleStep, ceiling),
		"throttle-trigger-threshold": throttleTrigger,
	}
}

// migration is query-migrate.
type migration struct {
	Status    string
	Problem   string `json:"error-desc"`
	TotalTime *int64 `json:"total-time"`
	Downtime  int64  // ms
	Throttle  int    `json:"cpu-throttle-percentage"`
	RAM       *struct {
		Total       uint64
		Transferred uint64
		Remaining   uint64
		Mbps        float64
		PageSize    uint64 `json:"page-size"`
		DirtyPages  uint64 `json:"dirty-pages-rate"`
		Passes      int    `json:"dirty-sync-count"`
	}
	Listening []struct {
		Type string
		Host string
		Port string
	} `json:"socket-address"`
}

func (p *Port) migration(ctx context.Context, vm string) (m migration, err error) {
	err = p.do(ctx, vm, "query-migrate", nil, &m)
	return m, err
}

// glimpse is migration for who will not wait. A QEMU is deaf while its main loop waits for the other end of a stream.
func (p *Port) glimpse(ctx context.Context, vm string) (m migration, deaf bool, err error) {
	look, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	m, err = p.migration(look, vm)
	if err != nil && look.Err() != nil && ctx.Err() == nil {
		return m, true, nil
	}
	return m, false, err
}

// under tells that a transfer goes on.
func (m migration) under() bool {
	switch m.Status {
	case "setup", "active", "pre-switchover", "device", "cancelling", "wait-unplug", "postcopy-active", "postcopy-paused", "postcopy-recover":
		return true
	}
	return false
}

// cut tells that the link of a post-copy is gone.
func (m migration) cut() bool { return m.Status == "postcopy-paused" }

// phase is the word of hypervisor.Progress for a status.
func (m migration) phase() string {
	switch m.Status {
	case "active":
		return "active"
	case "pre-switchover", "device":
		return "switchover"
	case "postcopy-active", "postcopy-paused", "postcopy-recover":
		return "post-copy"
	case "completed", "failed":
		return m.Status
	case "cancelling", "cancelled":
		return "cancelled"
	}
	return "setup"
}

func (m migration) progress() hypervisor.Progress {
	g := hypervisor.Progress{Phase: m.phase(), Throttle: m.Throttle, Downtime: time.Duration(m.Downtime) * time.Millisecond, Problem: m.Problem}
	if g.Throttle == leastThrottle {
		g.Throttle = 0
	}
	if m.cut() && g.Problem == "" {
		g.Problem = "the link was cut; both sides wait for another"
	}
	if r := m.RAM; r != nil {
		g.Transferred, g.Remaining, g.Total, g.Passes = r.Transferred, r.Remaining, r.Total, r.Passes
		g.DirtyRate, g.Bandwidth = float64(r.DirtyPages*r.PageSize), r.Mbps*1e6/8
	}
	return g
}
