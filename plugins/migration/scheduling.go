package migration

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/api"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/model/load"
	"github.com/ratchetos/ratchet/plugins/migration/plan"
	"github.com/ratchetos/ratchet/plugins/migration/run"
	"github.com/ratchetos/ratchet/plugins/migration/schedule"
	"github.com/ratchetos/ratchet/plugins/migration/schedule/draw"
	"github.com/ratchetos/ratchet/plugins/migration/schedule/live"
)

// sampling is over how long a guest's writing is measured before its move gets a slot.
const sampling = time.Second

// errNoLinks is the answer where moves begin when they are ordered.
var errNoLinks = errors.New("no links and no hosts are watched, so moves begin when they are ordered: give plugins.migration.schedule.links or hosts")

// newSchedule watches what is configured; nil if that is nothing.
func (m *mover) newSchedule(ctx context.Context, c schedule.Config) (*live.Live, error) {
	if c.Empty() {
		return nil, nil
	}
	return live.New(ctx, live.Options{
		Config: c, State: m.core, Changed: m.changed, Measured: m.f.changed, Limit: m.runner.Limit, Sent: m.sent, Load: m.load, Log: m.log,
	})
}

// load is what a host has to do, by the agent or daemon on it.
func (m *mover) load(ctx context.Context, host string) (load.Host, error) {
	port, err := m.port(host)
	if err != nil {
		return load.Host{}, err
	}
	watched, ok := port.(hypervisor.Watched)
	if !ok {
		return load.Host{}, hypervisor.ErrNotHere
	}
	return watched.Load(ctx)
}

// sent is how much a move has sent, false when it does not send now.
func (m *mover) sent(id string) (uint64, bool) {
	s, known := m.runner.Move(id)
	return s.Transferred, known && s.Outcome == "" && s.Phase == run.Transfer
}

// grant is what a move may use from its first byte on.
func (m *mover) grant(id string) uint64 {
	if m.schedule == nil {
		return 0
	}
	return m.schedule.Grant(id)
}

// book asks the schedule for a slot. A move that shall begin now gets one that begins now, whatever the links are doing: it is
// then held to its part of their budgets.
func (m *mover) book(ctx context.Context, p plan.Plan, what order) error {
	now := time.Now()
	j := schedule.Job{
		ID: p.ID, VM: p.VM, From: p.From, To: p.To, Priority: what.Priority, Submitted: now,
		Rate: float64(p.Goal.Bandwidth), Windows: what.Windows,
		Memory: max(p.During.Memory.Total(), p.After.Memory.Total()), Load: schedule.Load{Bytes: p.During.Memory.Total()},
		Policy: schedule.Policy{
			Gap: p.Goal.Gap(), Deadline: time.Duration(p.Goal.Deadline), Throttle: p.Goal.AllowThrottle, PostCopy: p.Goal.AllowPostCopy,
		},
	}
	port, err := m.port(p.From)
	if err != nil {
		return err
	}
	if r, knows := port.(hypervisor.Resident); knows {
		// Slots of guests that use a tenth of their memory would be ten times too long, and their order by the wrong size.
		if touched, err := r.Resident(ctx, p.VM); err == nil {
			j.Load.Bytes = min(j.Load.Bytes, touched)
		}
	}
	for _, d := range p.During.Disks {
		if d.Source.Local != "" {
			j.Load.Bytes += d.Size
		}
	}
	if j.Earliest = what.NotBefore; !what.Waits() {
		j.Before = now
	}
	if j.Load.Dirty, err = dirtyRate(ctx, port, p.VM); err != nil {
		return err
	}
	_, err = m.schedule.Submit(j)
	return err
}

// dirtyRate measures how much the guest writes. A hypervisor that cannot tell is one whose guest is taken to write nothing.
func dirtyRate(ctx context.Context, port hypervisor.Port, vm string) (float64, error) {
	rate, err := port.DirtyRate(ctx, vm, sampling)
	if errors.Is(err, hypervisor.ErrNotHere) {
		return 0, nil
	}
	return rate, err
}

// showSchedule answers api.MethodSchedule.
func (m *mover) showSchedule(_ context.Context, req api.ScheduleRequest) (any, error) {
	if m.schedule == nil {
		return nil, errNoLinks
	}
	view, err := m.schedule.Show(req.Link)
	if err != nil {
		return nil, err
	}
	width := req.Width
	if width <= 0 {
		width = 80
	}
	return api.ScheduleReply{View: view, Text: draw.Schedule(view, min(width, maxWidth))}, nil
}

// maxWidth bounds a drawing, in columns.
const maxWidth = 500

// importHistory answers api.MethodImport.
func (m *mover) importHistory(ctx context.Context, req api.ImportRequest) (any, error) {
	if m.schedule == nil {
		return nil, errNoLinks
	}
	n, err := m.schedule.Import(ctx, req.Link, req.CSV)
	return api.ImportReply{Samples: n}, err
}

// checkSchedule finds what is wrong with the section's part. What moves neither leave nor come to has nothing to wait for.
func (c Config) checkSchedule(errorf func(path, format string, args ...any)) {
	c.Schedule.Check(func(path, text string) { errorf("schedule."+path, "%s", text) })
	known := func(path, name string) {
		if !slices.ContainsFunc(c.Hosts, func(h HostConfig) bool { return h.Name == name && h.moves() }) {
			errorf("schedule."+path, "there is no host %q that VMs move between: name one of plugins.migration.hosts", name)
		}
	}
	for i, l := range c.Schedule.Links {
		for k, name := range l.Hosts {
			known(fmt.Sprintf("links[%d].hosts[%d]", i, k), name)
		}
		if l.Watch.Host != "" {
			known(fmt.Sprintf("links[%d].watch.host", i), l.Watch.Host)
		}
	}
	for i, h := range c.Schedule.Hosts {
		known(fmt.Sprintf("hosts[%d].name", i), h.Name)
	}
}
