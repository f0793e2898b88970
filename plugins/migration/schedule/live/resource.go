package live

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/forecast"
	"github.com/ratchetos/ratchet/plugins/migration/schedule"
	"github.com/ratchetos/ratchet/plugins/migration/schedule/draw"
	"github.com/ratchetos/ratchet/plugins/migration/schedule/watch"
)

const (
	// laneStep is how finely slots are looked for.
	laneStep = 15 * time.Minute
	// keepEvery is how often a history is kept.
	keepEvery = 30 * time.Minute
	// stale is a load that nobody has read for so long that it says nothing about now, or for twice as long as it is read.
	stale = 5 * time.Minute
)

// resource is something whose load is watched and forecast: the bandwidth of a link, the processors or the memory of a host. Its
// fields are guarded by Live.mu, but for look.
type resource struct {
	name string
	unit draw.Unit
	// whole is how much of it there is, in its unit; 0 while nobody has said.
	whole float64
	given bool // by the configuration: what an agent says of it does not count
	every time.Duration
	// look reads the load, and how much there is, 0 if that is not told; nil if nothing is read.
	look func(ctx context.Context) (s watch.Sample, whole float64, ok bool, err error)

	forecaster *forecast.Forecaster // of parts of the whole; nil without a load and a history
	load       float64              // in its unit, at loadAt
	loadAt     time.Time
	problem    string
	keptAt     time.Time
}

func historyKey(name string) string { return "schedule/history/" + name }

// open reads the kept history and says where the load is read.
func (r *resource) open(ctx context.Context, w schedule.Watch, agent watch.Agent, o Options) error {
	r.every, r.keptAt, r.given = w.Interval(), o.Now(), r.whole > 0
	switch agent.Load = o.Load; {
	case w.Metrics != "":
		metric, err := watch.ParseMetric(w.Metric)
		if err != nil {
			return err
		}
		r.look = pageLook(&watch.Page{URL: w.Metrics, Metric: metric, Client: o.HTTP}, w.Free, r.whole, o.Now)
	case agent.Host != "" && agent.Load != nil:
		r.look = func(ctx context.Context) (watch.Sample, float64, bool, error) { return agent.Look(ctx, o.Now) }
	}
	kept, err := o.State.Get(ctx, historyKey(r.name))
	if err != nil {
		return fmt.Errorf("read its history: %w", err)
	}
	if r.look == nil && kept == nil {
		return nil
	}
	r.forecaster = newForecaster()
	if kept != nil {
		if err := r.forecaster.Restore(kept); err != nil {
			// A forecast can be done without: it begins anew, and says so.
			o.Log.Warn("a history is left out", "resource", r.name, "err", err)
			r.forecaster = newForecaster()
		}
	}
	return nil
}

func pageLook(page *watch.Page, free bool, whole float64, now func() time.Time) func(context.Context) (watch.Sample, float64, bool, error) {
	return func(ctx context.Context) (watch.Sample, float64, bool, error) {
		s, ok, err := page.Look(ctx, now)
		if free {
			s.Value = max(0, whole-s.Value)
		}
		return s, 0, ok, err
	}
}

func newForecaster() *forecast.Forecaster { return forecast.New(forecast.Options{}) }

// follow reads a load until ctx ends. take is called with mu held.
func (l *Live) follow(ctx context.Context, r *resource, take func(s watch.Sample)) {
	t := time.NewTicker(r.every)
	defer t.Stop()
	for {
		s, whole, ok, err := r.look(ctx)
		if ctx.Err() != nil {
			return
		}
		l.mu.Lock()
		var snapshot []byte
		changed, again := r.problem != text(err) || r.loadAt.IsZero() && ok, ok && l.refused
		r.problem = text(err)
		r.told(whole)
		if ok && r.whole > 0 {
			take(s)
			if s.At.Sub(r.keptAt) >= keepEvery || s.At.Before(r.keptAt) {
				snapshot, r.keptAt = r.forecaster.Snapshot(), s.At
			}
		}
		l.mu.Unlock()
		if changed {
			l.o.Changed()
		}
		if changed || again {
			l.touch()
		}
		l.o.Measured()
		if snapshot != nil {
			if err := l.o.State.Put(ctx, historyKey(r.name), snapshot); err != nil && ctx.Err() == nil {
				l.o.Log.Warn("keep a history", "resource", r.name, "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// told takes in how much there is, as an agent says.
func (r *resource) told(whole float64) {
	if whole > 0 && !r.given {
		r.whole = whole
	}
}

// take takes a load in.
func (r *resource) take(s watch.Sample) {
	r.load, r.loadAt = max(0, s.Value), s.At
	r.forecaster.Add(s.At, r.load/r.whole)
}

// fresh says whether the load was measured lately.
func (r *resource) fresh(now time.Time) bool {
	return !r.loadAt.IsZero() && now.Sub(r.loadAt) <= max(stale, 2*r.every)
}

// known says whether a forecast can be made.
func (r *resource) known() bool { return r.forecaster != nil && r.forecaster.Slots() > 0 }

// method says in words what is known of the future.
func (r *resource) method(now time.Time) string {
	if r.forecaster == nil {
		return "its load is not watched"
	}
	s := r.forecaster.Skill()
	days := fmt.Sprintf("%.1f days of history", s.Days)
	switch {
	case !r.known():
		return "no history yet"
	case r.look != nil && !r.loadAt.IsZero() && !r.fresh(now):
		return "nothing was measured since " + r.loadAt.UTC().Format("Mon 15:04")
	case !s.Skilled:
		return days + ": by the back-test waiting would not have paid"
	}
	var names []string
	for _, m := range s.Methods[:2] {
		names = append(names, fmt.Sprintf("%s %.0f %%", m.Name, 100*m.Weight))
	}
	return fmt.Sprintf("%s: waiting would have saved %.0f %% lately (%s)", days, 100*s.Gain, strings.Join(names, ", "))
}

// keep writes the history.
func (r *resource) keep(ctx context.Context, state State) error {
	if !r.known() {
		return nil
	}
	return state.Put(ctx, historyKey(r.name), r.forecaster.Snapshot())
}
