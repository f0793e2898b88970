package share

import "math"

// Cost is the running estimate of what one call of a stage's function takes. The zero value knows nothing.
type Cost struct {
	busy  float64 // seconds, older ones fading
	items float64
}

const (
	// fade is what is left of a measurement after one interval.
	fade = 0.7
	// A change of the cost by more than jump (of its logarithm), seen in at least enough calls, is a new phase:
	// the past says nothing about it.
	jump   = 0.4
	enough = 8
)

// Add takes what was measured in one interval.
func (c *Cost) Add(items int, busy float64) {
	if items <= 0 || busy < 0 {
		return
	}
	n := float64(items)
	if old := c.Seconds(); old > 0 && items >= enough && math.Abs(math.Log(max(busy/n, 1e-12)/old)) > jump {
		*c = Cost{}
	}
	c.busy = c.busy*fade + busy
	c.items = c.items*fade + n
}

// Seconds of one call; 0 when nothing is known, and never when something is.
func (c *Cost) Seconds() float64 {
	if c.items == 0 {
		return 0
	}
	return max(c.busy/c.items, 1e-9)
}
