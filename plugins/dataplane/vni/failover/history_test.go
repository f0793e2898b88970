package failover

import (
	"flag"
	"fmt"
	"testing"
	"time"
)

var (
	histories = flag.Int("histories", 40, "histories of TestHistories, half of them with two control planes")
	firstSeed = flag.Uint64("seed", 0, "seed of the first history; the others count on from it")
)

// history disturbs a world for a while and says what went wrong.
func history(seed uint64, boxes int, m mutant) (moves int, err error) {
	w := newWorld(seed, boxes, 3+int(seed/4%2), m)
	for w.now < 12*time.Second {
		if w.r.IntN(w.pace) == 0 {
			w.disturb()
		}
		w.step()
		if err := w.check(); err != nil {
			return w.moves, fmt.Errorf("at %v: %w", w.now, err)
		}
	}
	w.heal()
	for end := w.now + 5*time.Second; w.now < end; {
		w.step()
		if err := w.check(); err != nil {
			return w.moves, fmt.Errorf("at %v, healing: %w", w.now, err)
		}
	}
	// A healed world still loses a message now and then: a VNI may be on its way at this moment, but not for long.
	err = standing(w)
	for end := w.now + time.Second; err != nil && w.now < end; err = standing(w) {
		w.step()
		if err := w.check(); err != nil {
			return w.moves, fmt.Errorf("at %v, healed: %w", w.now, err)
		}
	}
	return w.moves, err
}

// standing says what is wrong with a world in which nothing is.
func standing(w *world) error {
	leaders := 0
	for _, b := range w.boxes {
		if _, leads, majority := b.e.Leads(w.now); leads && majority {
			leaders++
			for _, s := range b.e.Status(w.now) {
				if !s.Up {
					return fmt.Errorf("healed, and VNI %d is %s", s.Interface.ID, s.State)
				}
			}
		}
	}
	if leaders != 1 {
		return fmt.Errorf("healed, with %d leaders", leaders)
	}
	return nil
}

// TestHistories is also the soak of attachments.
func TestHistories(t *testing.T) {
	lost, moves := 0, 0
	for n := range *histories {
		seed, boxes := *firstSeed+uint64(n), 1+n%2
		m, err := history(seed, boxes, none)
		if err != nil {
			lost++
			t.Errorf("seed %d, %d boxes: %v", seed, boxes, err)
		}
		moves += m
	}
	if moves < 5**histories {
		t.Errorf("only %d moves: the histories show nothing", moves)
	}
	t.Logf("soak interface-group.attachment %d tried, %d lost", *histories, lost)
}

// Without one of these rules some history goes wrong, and the first such is found soon.
func TestHistoriesCatchMutants(t *testing.T) {
	for name, m := range map[string]mutant{
		"fence not awaited": fenceNotAwaited, "new leader moves at once": settleNotAwaited,
		"lease counts from receipt": leaseFromReceipt,
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(100) {
				if _, err := history(seed, 1+int(seed%2), m); err != nil {
					t.Logf("seed %d: %v", seed, err)
					return
				}
			}
			t.Error("survived")
		})
	}
}
