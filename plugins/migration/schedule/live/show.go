package live

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/forecast"
	"github.com/ratchetos/ratchet/plugins/migration/schedule/draw"
	"github.com/ratchetos/ratchet/plugins/migration/schedule/watch"
)

// shownPast is how much of what was measured is shown.
const shownPast = 6 * time.Hour

// Show is what is drawn of one link, or of all if the name is empty.
func (l *Live) Show(name string) (draw.View, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.o.Now()
	v := draw.View{Now: now}
	for _, k := range l.links {
		if name == "" || name == k.conf.Name {
			v.Links = append(v.Links, k.view(now))
		}
	}
	if len(v.Links) == 0 && name != "" {
		return v, fmt.Errorf("there is no link %q in the configuration", name)
	}
	for _, d := range l.engine.Decisions() {
		v.Slots = append(v.Slots, draw.Slot{
			ID: d.ID, VM: d.VM, State: string(d.State), Links: d.Links, Start: d.Start, End: d.End, Rate: d.Booked, Why: d.Why,
		})
	}
	return v, nil
}

func (k *link) view(now time.Time) draw.Link {
	v := draw.Link{Name: k.conf.Name, Capacity: uint64(k.conf.Capacity), Budget: k.conf.Budgeted(), Problem: k.problem, Method: k.method(now)}
	if k.forecaster == nil || k.forecaster.Slots() == 0 {
		return v
	}
	band := k.forecaster.Forecast(now)
	v.Samples, v.Step = k.forecaster.Slots(), k.forecaster.Step()
	from := band.From - int64(shownPast/v.Step)
	v.From = k.forecaster.Time(from)
	for n := from; n < band.From; n++ {
		past := k.forecaster.Past(n)
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

// Import replaces the history of a link by one from a CSV file with bytes a second, and keeps it. What was measured after the
// file's last sample is measured again. It returns how many samples there were.
func (l *Live) Import(ctx context.Context, name string, csv string) (int, error) {
	list, err := watch.ReadCSV(strings.NewReader(csv))
	if err != nil {
		return 0, fmt.Errorf("read the history of %s: %w", name, err)
	}
	if len(list) == 0 {
		return 0, fmt.Errorf("read the history of %s: it has no samples", name)
	}
	for _, k := range l.links {
		if k.conf.Name != name {
			continue
		}
		// Learning a month takes a while: not under the lock.
		f := newForecaster(k.conf)
		for _, s := range list {
			f.Add(s.At, s.Value)
		}
		l.mu.Lock()
		k.forecaster = f
		err := k.keep(ctx, l.o.State)
		l.plan()
		l.mu.Unlock()
		l.touch()
		if err != nil {
			return 0, fmt.Errorf("keep the history of %s: %w", name, err)
		}
		return len(list), nil
	}
	return 0, fmt.Errorf("there is no link %q in the configuration", name)
}
