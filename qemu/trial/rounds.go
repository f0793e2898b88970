package trial

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/api"
)

// All moves the three guests there by one template, when it is best for all, and returns how long that takes together.
func (l *Links) All(ctx context.Context) (makespan time.Duration, err error) {
	l.Meter.Reset()
	began := time.Now()
	ids, err := l.apply(ctx, api.MoveRequest{Template: TemplateAll, When: api.WhenBest})
	if err != nil {
		return 0, err
	}
	ended, err := l.moved(ctx, ids...)
	for _, m := range ended {
		makespan = max(makespan, m.Ended.Sub(began))
	}
	if err == nil && len(ended) != len(Crossings()) {
		err = fmt.Errorf("the template has moved %d VMs, not %d", len(ended), len(Crossings()))
	}
	return makespan, err
}

// Back moves the guests back, one after the other, and returns how long each takes alone.
func (l *Links) Back(ctx context.Context) (map[string]time.Duration, error) {
	l.Meter.Reset()
	solo := map[string]time.Duration{}
	for _, c := range Crossings() {
		began := time.Now()
		ids, err := l.apply(ctx, api.MoveRequest{VM: c.VM, To: c.From, When: api.WhenBest})
		if err != nil {
			return nil, err
		}
		ended, err := l.moved(ctx, ids...)
		if err != nil {
			return nil, err
		}
		solo[c.VM] = ended[c.VM].Ended.Sub(began)
	}
	return solo, nil
}

// Urgent is the VM of high priority: it needs both links.
func Urgent() Crossing { return Crossings()[2] }

// Overtake has two guests moved by a template, one over each link, and a third of high priority ordered while they send. It
// returns how long that one takes, and by how much it is done before the others.
func (l *Links) Overtake(ctx context.Context) (took, ahead time.Duration, err error) {
	l.Meter.Reset()
	pair, err := l.apply(ctx, api.MoveRequest{Template: TemplatePair, When: api.WhenBest})
	if err != nil {
		return 0, 0, err
	}
	if err := l.under(ctx, pair...); err != nil {
		return 0, 0, err
	}
	began, c := time.Now(), Urgent()
	urgent, err := l.apply(ctx, api.MoveRequest{VM: c.VM, To: c.To, Priority: 10})
	if err != nil {
		return 0, 0, err
	}
	ended, err := l.moved(ctx, append(pair, urgent...)...)
	if err != nil {
		return 0, 0, err
	}
	done := ended[c.VM].Ended
	ahead = math.MaxInt64
	for vm, m := range ended {
		if vm != c.VM {
			ahead = min(ahead, m.Ended.Sub(done))
		}
	}
	return done.Sub(began), ahead, nil
}

// apply orders moves.
func (l *Links) apply(ctx context.Context, req api.MoveRequest) (ids []string, err error) {
	var r api.ApplyReply
	if err := l.invoke(ctx, api.MethodApply, req, &r); err != nil {
		return nil, err
	}
	if len(r.Refused) > 0 || len(r.Moves) == 0 {
		return nil, fmt.Errorf("%d moves are refused: %+v", len(r.Refused), r.Refused)
	}
	for _, m := range r.Moves {
		want := func(c Crossing) bool {
			return c.VM == m.VM && (c.From == m.From && c.To == m.To || c.To == m.From && c.From == m.To)
		}
		if !slices.ContainsFunc(Crossings(), want) {
			return nil, fmt.Errorf("%s is to go from %s to %s: not the way this trial is about", m.VM, m.From, m.To)
		}
		ids = append(ids, m.ID)
	}
	return ids, nil
}

// under waits until moves send memory.
func (l *Links) under(ctx context.Context, ids ...string) error {
	return l.follow(ctx, ids, func(m api.Move) bool { return m.Sent > 0 })
}

// moved waits until moves have ended, and returns them by their VMs.
func (l *Links) moved(ctx context.Context, ids ...string) (map[string]api.Move, error) {
	ended := map[string]api.Move{}
	err := l.follow(ctx, ids, func(m api.Move) bool {
		if !m.Ended.IsZero() {
			ended[m.VM] = m
		}
		return !m.Ended.IsZero()
	})
	for _, m := range ended {
		if m.State != "moved" {
			err = errors.Join(err, fmt.Errorf("%s is %s: %s", m.VM, m.State, m.Problem))
		}
	}
	return ended, errors.Join(err, l.seen(ctx)) // where they are now, for the next order
}

func (l *Links) follow(ctx context.Context, ids []string, is func(api.Move) bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*soon, errors.New("it takes too long"))
	defer cancel()
	return l.until(ctx, "follow "+strings.Join(ids, ", "), func() (bool, error) {
		all := true
		for _, id := range ids {
			var r api.MovesReply
			if err := l.invoke(ctx, api.MethodMoves, api.MovesRequest{ID: id}, &r); err != nil {
				return false, err
			}
			all = is(r.Moves[0]) && all
		}
		return all, nil
	})
}

// Best is the shortest time in which the crossings can be made one after another on each link, by trying every order: solo is
// how long each takes alone.
func Best(crossings []Crossing, solo map[string]time.Duration) time.Duration {
	best := time.Duration(math.MaxInt64)
	free := map[string]time.Duration{}
	var try func(left []Crossing, makespan time.Duration)
	try = func(left []Crossing, makespan time.Duration) {
		if len(left) == 0 {
			best = min(best, makespan)
		}
		for i, c := range left {
			start, before := time.Duration(0), map[string]time.Duration{}
			for _, link := range c.Links {
				start, before[link] = max(start, free[link]), free[link]
			}
			end := start + solo[c.VM]
			for _, link := range c.Links {
				free[link] = end
			}
			try(slices.Delete(slices.Clone(left), i, i+1), max(makespan, end))
			for link, at := range before {
				free[link] = at
			}
		}
	}
	try(crossings, 0)
	return best
}
