package engine

import (
	"testing"
	"time"
)

// A producer is taken from another host, and offered at all, only where it has been seen alive; a host that had it before
// a restart goes on with it, to say what has become of it.
func TestAbsentProducerIsNotTaken(t *testing.T) {
	for name, c := range map[string]struct {
		highest Claim
		absent  bool
		phase   Phase
		epoch   uint64
	}{
		"another host's, alive here":      {Claim{5, "h2"}, false, Holding, 6},
		"another host's, not seen here":   {Claim{5, "h2"}, true, Asking, 0},
		"nobody's, not seen here":         {Claim{}, true, Asking, 0},
		"this host's before, not seen":    {Claim{5, "h1"}, true, Holding, 5},
		"this host's before, alive again": {Claim{5, "h1"}, false, Holding, 5},
	} {
		s := NewShares(SharesOptions{Run: 1, Host: "h1", Service: "s", Producer: "p", Quota: 1, Agents: 1})
		ask := func(now time.Duration) {
			offers, _ := s.Step(now)
			for _, o := range offers {
				s.Acked(now, 0, Ack{Seq: o.Hold.Seq, TTL: time.Second, Highest: c.highest.Epoch, Holder: c.highest.Host})
			}
			s.Step(now)
		}
		s.SetAbsent(c.absent)
		ask(0)
		if s.Phase() != c.phase || s.Epoch() != c.epoch {
			t.Errorf("%s: %s epoch %d, want %s %d", name, s.Phase(), s.Epoch(), c.phase, c.epoch)
		}
		if c.phase != Asking {
			continue
		}
		s.SetAbsent(false) // and another host has taken it once more meanwhile
		c.highest = Claim{8, "h3"}
		ask(10 * time.Second)
		if s.Phase() != Holding || s.Epoch() != 9 {
			t.Errorf("%s, then alive: %s epoch %d, want holding 9", name, s.Phase(), s.Epoch())
		}
	}
}
