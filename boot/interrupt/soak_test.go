package interrupt

import (
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
)

var (
	interruptions = flag.Int("interruptions", 300, "how many interruptions TestSoak makes")
	firstSeed     = flag.Uint64("seed", 1, "the first life of TestSoak")
)

// lifetime is how many interruptions a life has: a box that was interrupted often, and a new one now and then.
const lifetime = 60

// TestSoak makes interruptions until there were enough, and loses no box.
func TestSoak(t *testing.T) {
	total := newTally()
	for seed := *firstSeed; total.tried < *interruptions; seed++ {
		total.add(lead(t, seed, none, min(lifetime, *interruptions-total.tried)))
		if len(total.lost) > 3 {
			break
		}
	}
	for _, why := range total.lost {
		t.Error(why)
	}
	// What the soak was about; a kind of effect that is never cut would show here.
	t.Logf("%d lives, %d boots, at most %d until healthy, %d in the recovery console", total.lives, total.boots, total.most, total.console)
	for _, m := range []map[string]int{total.before, total.ops} {
		var parts []string
		for _, k := range slices.Sorted(maps.Keys(m)) {
			parts = append(parts, fmt.Sprintf("%s %d", k, m[k]))
		}
		t.Log(strings.Join(parts, ", "))
	}
	fmt.Printf("soak secure-counter.engine %d tried, %d lost\n", total.tried, len(total.lost))
}

// lead lives one life of so many interruptions.
func lead(t *testing.T, seed uint64, m mutant, n int) (out tally) {
	t.Run(fmt.Sprintf("life %d", seed), func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l := newLife(t, seed, m)
			for steps := 0; l.tally.tried < n && !l.lost() && steps < 20*n; steps++ {
				l.step()
			}
			l.stop()
			out = l.tally
		})
	})
	return out
}

// TestMutants: a soak that lets a wrong order pass proves nothing.
func TestMutants(t *testing.T) {
	for _, m := range mutants {
		t.Run(string(m), func(t *testing.T) {
			tried := 0
			for seed := range uint64(20) {
				r := lead(t, seed+1, m, lifetime)
				if tried += r.tried; len(r.lost) > 0 {
					first, _, _ := strings.Cut(r.lost[0], "\n")
					t.Logf("caught after %d interruptions: %s", tried, first)
					return
				}
			}
			t.Errorf("not caught by %d interruptions", tried)
		})
	}
}
