package live

import (
	"slices"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/schedule/budget"
)

const (
	// settle is how long a limit takes to be in force: until the move is looked at, and then until its hypervisor looks.
	settle = 300 * time.Millisecond
	// trickle is the least limit: a transfer that waits for room sends so much. Less than ten bytes a second QEMU takes for no
	// limit at all.
	trickle = 64 << 10
)

// told is a limit that is on its way to a hypervisor.
type told struct {
	budget.Limit
	at time.Time
}

// tell has limits carried out.
func (l *Live) tell(limits []budget.Limit, now time.Time) {
	for _, limit := range limits {
		if err := l.o.Limit(limit.ID, rate(limit.Rate)); err != nil {
			l.o.Log.Debug("limit a move", "move", limit.ID, "err", err) // it has just ended, or its host is away
			continue
		}
		l.mu.Lock()
		l.told = append(l.told, told{limit, now})
		l.mu.Unlock()
	}
}

func rate(limit float64) uint64 { return uint64(max(trickle, limit)) }

// Grant is asked when a move is about to send: how many bytes a second it may use from its first one on; 0 if it goes over no
// link that is divided. Without it a transfer would be without limit until the next look at it, which can be all of a small one.
func (l *Live) Grant(id string) uint64 {
	l.mu.Lock()
	now := l.o.Now()
	l.engine.Begin(id, now) // Began may be a moment away
	limits, _ := l.steer(now)
	d, ok := l.engine.Decision(id)
	first := l.control.Limit(id)
	l.mu.Unlock()
	l.tell(limits, now)
	l.touch() // from now on it is looked at often
	if !ok || len(d.Links) == 0 || l.o.Limit == nil {
		return 0
	}
	return rate(first)
}

// settled notes which limits are in force by now. It is called with mu held.
func (l *Live) settled(now time.Time) {
	l.told = slices.DeleteFunc(l.told, func(t told) bool {
		inForce := now.Sub(t.at) >= settle
		if inForce {
			l.control.Done(t.Limit)
		}
		return inForce
	})
}
