package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/plugins/gateway/api"
)

const (
	defaultScrubEvery = 7 * 24 * time.Hour
	defaultScrubRate  = 16 << 20
	// firstScrub is how long a start is left in peace before a pass that is due.
	firstScrub = 5 * time.Minute
	// scrubsKey is where core keeps when each volume was scrubbed last: a gateway that is restarted often scrubs no less
	// for it, and no more.
	scrubsKey = "scrubs"
)

// scrubs remembers when volumes were scrubbed last. It is safe for concurrent use.
type scrubs struct {
	host plugin.Host // nil for none: all is forgotten with the process

	mu   sync.Mutex
	last map[string]time.Time
}

// scrubsOf takes up what was kept of the volumes that there are. What cannot be read costs a pass too many.
func scrubsOf(ctx context.Context, host plugin.Host, volumes []VolumeConfig) (*scrubs, error) {
	s := &scrubs{host: host, last: map[string]time.Time{}}
	if host == nil {
		return s, nil
	}
	kept, err := host.Get(ctx, scrubsKey)
	if err == nil && kept != nil {
		err = json.Unmarshal(kept, &s.last)
	}
	if err != nil || s.last == nil {
		s.last = map[string]time.Time{}
	}
	maps.DeleteFunc(s.last, func(name string, _ time.Time) bool {
		return !slices.ContainsFunc(volumes, func(v VolumeConfig) bool { return v.Name == name })
	})
	return s, err
}

func (s *scrubs) of(volume string) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last[volume]
}

func (s *scrubs) done(ctx context.Context, volume string, at time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := maps.Clone(s.last)
	next[volume] = at.UTC().Truncate(time.Second)
	s.last = next
	if s.host == nil {
		return nil
	}
	text, err := json.Marshal(next)
	if err != nil {
		return err
	}
	return s.host.Put(ctx, scrubsKey, text)
}

// due is how long to wait for the next pass, when the last one ended at last (zero for never) and the gateway has just
// started or tried. A clock that was set back, or a last pass in the future, is no reason to wait longer than every.
func due(now, last time.Time, every time.Duration) time.Duration {
	soon := min(every, firstScrub)
	if last.IsZero() || last.After(now) {
		return soon
	}
	return max(soon, every-now.Sub(last))
}

// scrubOrder is a pass that somebody asked for.
type scrubOrder struct{ rate int64 }

// scrub checks the volume's part of the disk again and again, and when it is asked to; after its neighbours and not
// beside them.
func (r *runner) scrub(ctx context.Context, c ScrubConfig) {
	every, rate := time.Duration(c.Every), int64(c.Rate)
	if every == 0 {
		every = defaultScrubEvery
	}
	if rate == 0 {
		rate = defaultScrubRate
	}
	for {
		pace, asked := rate, false
		t := time.NewTimer(due(time.Now(), r.scrubs.of(r.name), every))
		select {
		case <-t.C:
		case o := <-r.scrubNow:
			if asked = true; o.rate != 0 {
				pace = o.rate
			}
		case <-ctx.Done():
		}
		t.Stop()
		if ctx.Err() != nil {
			return
		}
		if err := r.scrubOnce(ctx, pace); err != nil && ctx.Err() == nil {
			r.log.Warn("scrub ended early", "volume", r.name, "error", err)
		}
		if asked {
			r.scrubAsked.Add(-1)
		}
	}
}

func (r *runner) scrubOnce(ctx context.Context, rate int64) error {
	v, _, _ := r.current()
	if v == nil {
		return nil // tried again when it is due
	}
	r.disk.scrubbing.Lock()
	defer r.disk.scrubbing.Unlock()
	if err := v.Scrub(ctx, rate); err != nil {
		return err
	}
	if err := r.scrubs.done(ctx, r.name, time.Now()); err != nil {
		r.log.Warn("the time of the scrub is not kept", "volume", r.name, "error", err)
	}
	r.changed()
	return nil
}

// errScrubWaits is an order on top of one that has not been begun.
var errScrubWaits = errors.New("a scrub is asked for already and begins after those under way")

// scrubVolume is api.MethodScrub.
func (f *Feature) scrubVolume(_ context.Context, request []byte) (any, error) {
	var q api.ScrubRequest
	if err := decode(request, &q); err != nil {
		return nil, err
	}
	r, _, err := f.open(q.Name)
	if err != nil {
		return nil, err
	}
	if q.Rate > math.MaxInt64 {
		q.Rate = math.MaxInt64
	}
	shown := r.show() // before it can have begun: its passes are counted from here
	r.scrubAsked.Add(1)
	select {
	case r.scrubNow <- scrubOrder{rate: int64(q.Rate)}:
		return shown, nil
	default:
		r.scrubAsked.Add(-1)
		return nil, fmt.Errorf("scrub volume %s: %w", q.Name, errScrubWaits)
	}
}
