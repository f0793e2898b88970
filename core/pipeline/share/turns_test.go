package share

import (
	"math"
	"testing"
)

// serve lets one worker serve those that are ready, by turns, n times; each takes a second's thousandth.
func serve(turns *Turns, accounts []Account, grants []float64, ready func(i, n int) bool, n int) []float64 {
	const slice = 1e-3
	done := make([]float64, len(accounts))
	for k := range n {
		best := -1
		for i := range accounts {
			if ready(i, k) && (best < 0 || turns.Virtual(&accounts[i]) < turns.Virtual(&accounts[best])) {
				best = i
			}
		}
		if best < 0 {
			continue
		}
		turns.Serve(&accounts[best])
		accounts[best].Charge(slice, grants[best])
		done[best] += slice
	}
	return done
}

func TestTurnsFollowGrants(t *testing.T) {
	var turns Turns
	done := serve(&turns, make([]Account, 3), []float64{1, 2, 5}, func(int, int) bool { return true }, 8000)
	for i, want := range []float64{1, 2, 5} {
		if math.Abs(done[i]-want) > 0.05 {
			t.Errorf("account %d was served %.3f s, want %.0f", i, done[i], want)
		}
	}
}

// What one does not use goes to the other, and is not claimed back later beyond the lag.
func TestTurnsIdleAccountHasNoClaim(t *testing.T) {
	var turns Turns
	accounts, grants := make([]Account, 2), []float64{1, 1}
	alone := serve(&turns, accounts, grants, func(i, _ int) bool { return i == 0 }, 5000)
	if math.Abs(alone[0]-5) > 1e-9 {
		t.Fatalf("alone it was served %v s of 5", alone[0])
	}
	both := serve(&turns, accounts, grants, func(int, int) bool { return true }, 2000)
	if both[1]-both[0] > lag+0.01 {
		t.Errorf("who was idle got %.3f s, the other %.3f s", both[1], both[0])
	}
}

func TestCost(t *testing.T) {
	var c Cost
	if c.Seconds() != 0 {
		t.Error("nothing measured, something known")
	}
	for range 20 {
		c.Add(10, 0.1)
	}
	c.Add(10, 0.12)
	if got := c.Seconds(); got < 0.0101 || got > 0.0119 {
		t.Errorf("a small change moved the estimate to %v", got)
	}
	c.Add(1, 1) // one slow call is not a phase
	if got := c.Seconds(); got > 0.06 {
		t.Errorf("one slow call moved the estimate to %v", got)
	}
	c.Add(10, 1)
	if got := c.Seconds(); got != 0.1 {
		t.Errorf("a new phase is taken for %v s a call, want 0.1", got)
	}
	c.Add(0, 0)
	c.Add(5, -1)
	if got := c.Seconds(); got != 0.1 {
		t.Errorf("no measurement changed the estimate to %v", got)
	}
}
