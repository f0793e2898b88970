package run

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/agent"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/model"
	"github.com/ratchetos/ratchet/plugins/migration/plan"
	"github.com/ratchetos/ratchet/plugins/migration/run/journal"
	"github.com/ratchetos/ratchet/plugins/migration/run/policy"
	"github.com/ratchetos/ratchet/plugins/migration/schedule"
)

var errNoVolumes = errors.New("the VM has disks on a gateway, and this manager cannot hand volumes over")

// sampling is how long a guest's writes are watched before the start.
const sampling = time.Second

// way is how the transfer goes, decided at admission.
type way struct {
	goal  policy.Goal
	plain bool
}

// admit looks once more at what the plan was made from, since then time has passed.
func (m *move) admit(ctx context.Context, source, target hypervisor.Port) (way, error) {
	whole, limit := ctx, m.r.opts.Policy.Call
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if len(m.volumes()) > 0 && m.r.opts.Volumes == nil {
		return way{}, errNoVolumes
	}
	if err := m.unchanged(ctx, source); err != nil {
		return way{}, late(whole, m.plan.From, "describe the VM", limit, err)
	}
	if err := m.vacant(ctx, target); err != nil {
		return way{}, late(whole, m.plan.To, "say whether it has the VM", limit, err)
	}
	if err := m.introduce(ctx, source); err != nil {
		return way{}, err
	}
	from, err := source.Capabilities(ctx)
	if err != nil {
		return way{}, late(whole, m.plan.From, "say what it can hold", limit, err)
	}
	to, err := target.Capabilities(ctx)
	if err != nil {
		return way{}, late(whole, m.plan.To, "say what it can hold", limit, err)
	}
	return m.choose(ctx, source, from, to)
}

// unchanged fails unless the VM runs in the shape that the plan starts from.
func (m *move) unchanged(ctx context.Context, source hypervisor.Port) error {
	state, err := source.Status(ctx, m.plan.VM)
	if err != nil {
		return err
	}
	if state != hypervisor.Running {
		return fmt.Errorf("%s is %s on %s: only a running VM is moved", m.plan.VM, state, m.plan.From)
	}
	shape, err := source.Describe(ctx, m.plan.VM)
	if err != nil {
		return err
	}
	if !plan.Reached(shape, m.plan.Before) {
		return fmt.Errorf("%s was changed since the plan was made: make another", m.plan.VM)
	}
	return nil
}

// vacant fails unless the target has no VM of that name. What an earlier move could not discard there is discarded now.
func (m *move) vacant(ctx context.Context, target hypervisor.Port) error {
	for _, old := range m.r.owing(m.plan.VM, m.plan.To) {
		order := m.order()
		order.ID = old.id
		if err := target.Finish(ctx, order, false); err != nil {
			return fmt.Errorf("discard what move %s left on %s: %w", old.id, m.plan.To, err)
		}
		old.show(func(s *Status) { s.Owed = false })
	}
	state, err := target.Status(ctx, m.plan.VM)
	if err != nil {
		return err
	}
	if state != hypervisor.Absent {
		return fmt.Errorf("%s has a VM %s already, which is %s: end it there", m.plan.To, m.plan.VM, state)
	}
	return nil
}

// owing are ended moves that may have left a destination on a host.
func (r *Runner) owing(vm, host string) (list []*move) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.moves {
		if m.status.Owed && m.status.VM == vm && m.status.To == host {
			list = append(list, m)
		}
	}
	return list
}

// introduce learns by what the guest is known again.
func (m *move) introduce(ctx context.Context, source hypervisor.Port) error {
	ctx, cancel := context.WithTimeout(ctx, m.r.opts.Policy.Agent)
	defer cancel()
	var boot string
	err := m.guest(source, func(g agent.Client) (err error) {
		boot, err = g.Ping(ctx)
		return err
	})
	if err != nil {
		for _, s := range m.plan.Steps {
			if s.Kind != plan.Move {
				return fmt.Errorf("%s needs the guest's agent: %w", s.Kind, err)
			}
		}
		m.show(func(s *Status) {
			s.because("no agent answers in the guest: that it runs at the target will be known from the host alone")
		})
	}
	return m.write(journal.Record{Kind: journal.Reached, Phase: string(Admitted), Boot: boot})
}

// choose decides how memory is sent, and refuses what would not end, before a byte is sent.
func (m *move) choose(ctx context.Context, source hypervisor.Port, from, to model.Host) (way, error) {
	goal := m.plan.Goal
	w := way{
		plain: !from.TLS || !to.TLS,
		goal: policy.Goal{
			Stall: m.r.opts.Policy.Stall,
			Gap:   goal.Gap(), Deadline: time.Duration(goal.Deadline), Bandwidth: uint64(goal.Bandwidth), Rest: uint64(goal.PostCopyBandwidth),
			Throttle: goal.AllowThrottle, PostCopy: goal.AllowPostCopy && from.PostCopy && to.PostCopy,
		},
	}
	if w.plain && !goal.AllowPlain {
		return w, fmt.Errorf("%s and %s cannot encrypt the transfer between them: set up certificates there, or allow_plain in the goal", m.plan.From, m.plan.To)
	}
	if i := m.plan.Moving(); m.plan.Steps[i].AtOnce {
		if !w.goal.PostCopy {
			return w, errors.New("the plan begins with post-copy, which the hosts cannot do or the goal does not allow")
		}
		w.goal.AtOnce = true
		return w, nil
	}
	// One that takes no orders later begins with it; it holds nobody back who converges.
	w.goal.Held = from.ThrottlesItself && w.goal.Throttle && !w.goal.PostCopy
	if w.goal.Bandwidth == 0 {
		return w, nil // the link's speed is seen under way; there is nothing to predict from
	}
	load, err := m.measure(ctx, source, float64(w.goal.Bandwidth))
	if err != nil {
		return w, err
	}
	rate := schedule.Constant(float64(w.goal.Bandwidth))
	v := schedule.Admit(load, rate, rate, schedule.Policy{Gap: w.goal.Gap, Deadline: w.goal.Deadline, Throttle: w.goal.Throttle, PostCopy: w.goal.PostCopy})
	w.goal.Held = w.goal.Held || v.Mode == schedule.ModeThrottle
	if v.Mode == schedule.ModePostCopy {
		w.goal.OnePass = true
		if w.goal.Rest > 0 { // otherwise what is left goes as fast as the link is, which nobody knows; next to the pass it is little
			left := min(float64(load.Bytes), load.Dirty*v.Total.Seconds())
			v.Total += time.Duration(left / float64(w.goal.Rest) * float64(time.Second))
		}
	}
	m.show(func(s *Status) {
		s.Predicted = v.Total
		for _, why := range v.Why {
			s.because(why)
		}
	})
	if !v.Admitted {
		return w, fmt.Errorf("not admitted: %s", strings.Join(v.Why, "; "))
	}
	return w, nil
}

// measure watches the guest's writes. Where they come near to what can be sent it looks twice: a guest that writes to the
// same pages again and again dirties no more in three seconds than in one.
func (m *move) measure(ctx context.Context, source hypervisor.Port, bandwidth float64) (schedule.Load, error) {
	load := schedule.Load{Bytes: m.plan.During.Memory.Total()}
	if r, ok := source.(hypervisor.Resident); ok {
		if touched, err := r.Resident(ctx, m.plan.VM); err == nil {
			load.Bytes = min(load.Bytes, touched)
		}
	}
	m.show(func(s *Status) { s.Doing = "measure how much the guest writes" })
	var err error
	if load.Dirty, err = source.DirtyRate(ctx, m.plan.VM, sampling); err != nil {
		return load, fmt.Errorf("measure how much %s writes: %w", m.plan.VM, err)
	}
	// One that cannot converge whatever it writes to is not kept waiting for the second.
	if load.Dirty > bandwidth/4 && load.Dirty < bandwidth {
		const longer = 3
		rate, err := source.DirtyRate(ctx, m.plan.VM, longer*sampling)
		if err != nil {
			return load, fmt.Errorf("measure how much %s writes: %w", m.plan.VM, err)
		}
		if rate < .9*load.Dirty {
			load.WorkingSet = uint64(longer * sampling.Seconds() * rate)
		}
	}
	for _, d := range m.plan.During.Disks {
		if d.Source.Volume == nil {
			load.Bytes += d.Size
		}
	}
	return load, nil
}
