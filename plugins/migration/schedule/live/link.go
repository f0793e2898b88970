package live

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/forecast"
	"github.com/ratchetos/ratchet/plugins/migration/schedule"
	"github.com/ratchetos/ratchet/plugins/migration/schedule/budget"
	"github.com/ratchetos/ratchet/plugins/migration/schedule/watch"
)

const (
	// laneStep is how finely slots are looked for.
	laneStep = 15 * time.Minute
	// keepEvery is how often a history is kept.
	keepEvery = 30 * time.Minute
	// stale is a load that nobody has read for so long that it says nothing about now.
	stale = 5 * time.Minute
	// shortest is the least time over which the moves' own bytes are taken off a load.
	shortest = time.Second
)

// link is one that is configured. Its fields are guarded by Live.mu, but for look.
type link struct {
	conf schedule.Link
	// look reads the load; nil if the link is not watched.
	look func(ctx context.Context) (watch.Sample, bool, error)

	forecaster *forecast.Forecaster // nil if not watched
	load       float64              // of others, bytes a second, at loadAt
	loadAt     time.Time
	problem    string
	keptAt     time.Time
	// own is what moves have sent over it since ownSince, sent what each has in all.
	own      uint64
	ownSince time.Time
	sent     map[string]uint64
}

func historyKey(name string) string { return "schedule/history/" + name }

func newLink(ctx context.Context, conf schedule.Link, o Options) (*link, error) {
	k := &link{conf: conf, sent: make(map[string]uint64), keptAt: o.Now(), ownSince: o.Now()}
	w := conf.Watch
	if w.Watched() {
		metric, err := watch.ParseMetric(w.Metric)
		if err != nil {
			return nil, err
		}
		page := &watch.Page{URL: w.Metrics, Metric: metric, Client: o.HTTP}
		k.look = func(ctx context.Context) (watch.Sample, bool, error) { return page.Look(ctx, o.Now) }
	}
	kept, err := o.State.Get(ctx, historyKey(conf.Name))
	if err != nil {
		return nil, fmt.Errorf("read its history: %w", err)
	}
	if k.look == nil && kept == nil {
		return k, nil
	}
	k.forecaster = newForecaster(conf)
	if kept != nil {
		if err := k.forecaster.Restore(kept); err != nil {
			// A forecast can be done without: it begins anew, and says so.
			o.Log.Warn("the history of a link is left out", "link", conf.Name, "err", err)
			k.forecaster = newForecaster(conf)
		}
	}
	return k, nil
}

func newForecaster(conf schedule.Link) *forecast.Forecaster {
	return forecast.New(forecast.Options{Capacity: float64(conf.Capacity)})
}

// watch reads a link's load until ctx ends.
func (l *Live) watch(ctx context.Context, k *link) {
	t := time.NewTicker(k.conf.Watch.Interval())
	defer t.Stop()
	for {
		s, ok, err := k.look(ctx)
		if ctx.Err() != nil {
			return
		}
		l.mu.Lock()
		var snapshot []byte
		changed := k.problem != text(err)
		k.problem = text(err)
		if ok {
			k.sample(s)
			if s.At.Sub(k.keptAt) >= keepEvery || s.At.Before(k.keptAt) {
				snapshot, k.keptAt = k.forecaster.Snapshot(), s.At
			}
		}
		l.mu.Unlock()
		if changed {
			l.o.Changed()
		}
		if snapshot != nil {
			if err := l.o.State.Put(ctx, historyKey(k.conf.Name), snapshot); err != nil && ctx.Err() == nil {
				l.o.Log.Warn("keep the history of a link", "link", k.conf.Name, "err", err)
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

// sample takes a load in, less what moves have sent themselves.
func (k *link) sample(s watch.Sample) {
	if took := s.At.Sub(k.ownSince); took >= shortest {
		s.Value -= float64(k.own) / took.Seconds()
	}
	k.own, k.ownSince = 0, s.At
	k.load, k.loadAt = max(0, s.Value), s.At
	k.forecaster.Add(s.At, k.load)
}

// count notes what a move has sent over the link.
func (k *link) count(t budget.Transfer) {
	if !slices.Contains(t.Links, k.conf.Name) {
		return
	}
	if n := t.Sent; n > k.sent[t.ID] {
		k.own += n - k.sent[t.ID]
	}
	k.sent[t.ID] = t.Sent
}

// free is what moves may use together now.
func (k *link) free() float64 {
	if k.loadAt.IsZero() {
		return float64(k.conf.Budgeted())
	}
	capacity := float64(k.conf.Capacity)
	return min(float64(k.conf.Budgeted()), max(forecast.Floor*capacity, capacity-k.load))
}

// lane is the link for the next hours.
func (k *link) lane(now time.Time) schedule.Lane {
	lane := schedule.Lane{Name: k.conf.Name, Hosts: k.conf.Hosts, Budget: float64(k.conf.Budgeted())}
	if k.forecaster == nil || k.forecaster.Slots() == 0 {
		return lane
	}
	capacity := float64(k.conf.Capacity)
	band := k.forecaster.Forecast(now)
	lane.From, lane.Step = k.forecaster.Time(band.From), laneStep
	if !k.forecaster.Worth() {
		// There is nothing to follow: as it is now, it stays.
		level, _ := k.forecaster.Recent(time.Hour)
		if !math.IsNaN(level) {
			lane.Expected = []float64{forecast.Free(level) * capacity}
			lane.Sure = []float64{forecast.Free(band.Q[forecast.Q90][0]) * capacity}
		}
		return lane
	}
	lane.Skilled = true
	per := int(laneStep / k.forecaster.Step())
	for i := 0; i+per <= band.Len(); i += per {
		lane.Expected = append(lane.Expected, forecast.Free(mean(band.Mean[i:i+per]))*capacity)
		lane.Sure = append(lane.Sure, forecast.Free(mean(band.Q[forecast.Q90][i:i+per]))*capacity)
	}
	return lane
}

func mean(values []float64) float64 {
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	return sum / float64(max(1, len(values)))
}

// method says in words what is known of the link's future.
func (k *link) method(now time.Time) string {
	if k.forecaster == nil {
		return "its load is not watched"
	}
	s := k.forecaster.Skill()
	days := fmt.Sprintf("%.1f days of history", s.Days)
	switch {
	case k.forecaster.Slots() == 0:
		return "nothing was measured yet"
	case k.look != nil && !k.loadAt.IsZero() && now.Sub(k.loadAt) > stale:
		return "nothing was measured since " + k.loadAt.UTC().Format("Mon 15:04")
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
func (k *link) keep(ctx context.Context, state State) error {
	if k.forecaster == nil || k.forecaster.Slots() == 0 {
		return nil
	}
	return state.Put(ctx, historyKey(k.conf.Name), k.forecaster.Snapshot())
}
