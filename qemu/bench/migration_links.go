package bench

import (
	"context"
	"slices"
	"time"

	"github.com/ratchetos/ratchet/qemu/trial"
)

// migrationLinks moves three real guests over two links by the plugin: all by one template, against the best order of what each
// takes alone in the same run; then two by a template with an urgent one ordered while they send.
func (s *session) migrationLinks(ctx context.Context) error {
	rounds := 3
	if s.Quick {
		rounds = 1
	}
	// Guests hold about 75 MiB beside what they fill: from 7 to 12 s each, of which two are spent on looking and starting.
	l, err := trial.OpenLinks(ctx, trial.LinksOptions{Budget: 16 << 20, Fill: [3]int{24, 56, 80}, Dirty: 1 << 20})
	if err != nil {
		return err
	}
	defer l.Close()
	s.note("move three guests over two links by a template, with one of high priority, and alone, %d times", rounds)
	var makespans, overtakes, peaks []float64
	for range rounds {
		makespan, err := l.All(ctx)
		if err != nil {
			return err
		}
		peaks = append(peaks, l.Peak())
		solo, err := l.Back(ctx)
		if err != nil {
			return err
		}
		best := trial.Best(trial.Crossings(), solo)
		s.note("together %v, best order %v, alone %v; peaks %.3f and %.3f", makespan.Round(time.Millisecond), best.Round(time.Millisecond), solo, peaks[len(peaks)-1], l.Peak())
		peaks = append(peaks, l.Peak())
		took, ahead, err := l.Overtake(ctx)
		if err != nil {
			return err
		}
		alone := solo[trial.Urgent().VM]
		s.note("urgent %v, alone %v, %v before the others; peak %.3f", took.Round(time.Millisecond), alone.Round(time.Millisecond), ahead.Round(time.Millisecond), l.Peak())
		peaks = append(peaks, l.Peak())
		makespans = append(makespans, makespan.Seconds()/best.Seconds())
		overtakes = append(overtakes, took.Seconds()/alone.Seconds())
		if err := l.Proof(ctx); err != nil {
			return err
		}
		if _, err := l.Back(ctx); err != nil {
			return err
		}
		peaks = append(peaks, l.Peak())
	}
	s.figures.Record("migration.links_makespan", Figure{Value: Median(makespans), Unit: "x", Goal: "<= 1.10", Peer: "the best order by brute force, 3 guests, 2 links", N: rounds})
	s.figures.Record("migration.links_budget_peak", Figure{Value: slices.Max(peaks), Unit: "x", Goal: "<= 1.05", Peer: "the link's budget, any second, by QEMU's count", N: len(peaks)})
	s.figures.Record("migration.links_priority", Figure{Value: Median(overtakes), Unit: "x", Goal: "<= 1.20", Peer: "its time alone", N: rounds})
	return nil
}
