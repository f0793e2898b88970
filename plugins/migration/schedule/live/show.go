package live

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/forecast"
	"github.com/ratchetos/ratchet/plugins/migration/schedule"
	"github.com/ratchetos/ratchet/plugins/migration/schedule/draw"
	"github.com/ratchetos/ratchet/plugins/migration/schedule/watch"
)

// shownPast is how much of what was measured is shown.
const shownPast = 6 * time.Hour

// Show is what is drawn of one link or resource of a host, or of all if the name is empty.
func (l *Live) Show(name string) (draw.View, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.o.Now()
	v := draw.View{Now: now}
	for _, k := range l.links {
		if name == "" || name == k.name {
			v.Links = append(v.Links, k.view(now, k.budgeted()/k.carries))
		}
	}
	for _, m := range l.rooms {
		if name == "" || name == m.name {
			v.Links = append(v.Links, m.view(now, max(0, m.whole-m.spare)))
		}
	}
	if len(v.Links) == 0 && name != "" {
		return v, unknown(name)
	}
	for _, d := range l.engine.Decisions() {
		slot := draw.Slot{
			ID: d.ID, VM: d.VM, State: string(d.State), Links: d.Links, Start: d.Start, End: d.End, Rate: d.Booked, Why: d.Why,
		}
		for _, m := range l.rooms {
			if m.host == d.To && d.State != schedule.Denied {
				slot.Links = append(slices.Clone(slot.Links), m.name)
			}
		}
		v.Slots = append(v.Slots, slot)
	}
	return v, nil
}

// Loads are what others use now of what is watched, without forecasts.
func (l *Live) Loads() (list []draw.Link) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.o.Now()
	for _, r := range l.resources() {
		if load := r.load; r.fresh(now) {
			list = append(list, draw.Link{Name: r.name, Unit: r.unit, Capacity: r.whole, Load: &load})
		}
	}
	return list
}

// unknown is the answer for a resource that is not watched.
func unknown(name string) error {
	return fmt.Errorf("there is no %q in the configuration: name a link, HOST/cpu or HOST/memory", name)
}

// view is what is drawn of a resource of which moves may use so much.
func (r *resource) view(now time.Time, budget float64) draw.Link {
	v := draw.Link{Name: r.name, Unit: r.unit, Capacity: r.whole, Budget: budget, Problem: r.problem, Method: r.method(now)}
	if load := r.load; r.fresh(now) {
		v.Load = &load
	}
	if !r.known() {
		return v
	}
	band := r.forecaster.Forecast(now)
	v.Samples, v.Step = r.forecaster.Slots(), r.forecaster.Step()
	from := band.From - int64(shownPast/v.Step)
	v.From = r.forecaster.Time(from)
	for n := from; n < band.From; n++ {
		past := r.forecaster.Past(n)
		if past != past {
			past = -1
		}
		v.Past = append(v.Past, past)
	}
	v.Low = append(v.Low, band.Q[forecast.Q10]...)
	v.Mid = append(v.Mid, band.Q[forecast.Q50]...)
	v.High = append(v.High, band.Q[forecast.Q90]...)
	return v
}

// Import replaces the history of a link or of a host's resource by one from a CSV file: bytes a second, busy processors, or bytes in use.
// It is kept. What was measured after the
// file's last sample is measured again. It returns how many samples there were.
func (l *Live) Import(ctx context.Context, name string, csv string) (int, error) {
	list, err := watch.ReadCSV(strings.NewReader(csv))
	if err != nil {
		return 0, fmt.Errorf("read the history of %s: %w", name, err)
	}
	if len(list) == 0 {
		return 0, fmt.Errorf("read the history of %s: it has no samples", name)
	}
	for _, r := range l.resources() {
		if r.name != name {
			continue
		}
		l.mu.Lock()
		whole := r.whole
		l.mu.Unlock()
		if whole == 0 {
			return 0, fmt.Errorf("the history of %s: its host has not said yet how much there is: try again when it answers", name)
		}
		// Learning a month takes a while: not under the lock.
		f := newForecaster()
		for _, s := range list {
			f.Add(s.At, s.Value/whole)
		}
		l.mu.Lock()
		r.forecaster = f
		err := r.keep(ctx, l.o.State)
		l.plan(l.o.Now())
		l.mu.Unlock()
		l.touch()
		if err != nil {
			return 0, fmt.Errorf("keep the history of %s: %w", name, err)
		}
		return len(list), nil
	}
	return 0, unknown(name)
}
