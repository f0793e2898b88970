// Package steer decides with what weight each backend of a VIP takes part in its ring, from what is known of it.
//
// A backend that is drained, down or unknown has no place: it keeps its connections, which the flow table holds, and
// gets no new ones. One that has no room – its credit is used up or its report too old – has no place either while
// others have room. The program would pass it over anyway, but it tries only a few candidates; with nearly all backends
// full, too many connections would find no room though there is some. When none has room, all serving ones keep their
// places, for the program to decide by the VIP's policy.
//
// A backend that begins to serve gets its share in eight steps over the slow start. The package is pure; times are
// since any fixed moment.
package steer

import "time"

// Steps of a slow start.
const Steps = 8

// Backend of a VIP as it is now.
type Backend struct {
	// Weight as configured or set by an operator; 0 drains.
	Weight uint32
	// Serving is false while it is down, or nobody knows where it is.
	Serving bool
	// Room is false while no new connection can go there.
	Room bool
	// Since is when it began to serve. Seasoned says that it did so long ago.
	Since    time.Duration
	Seasoned bool
}

// Step of a slow start, 1 to Steps.
func (b Backend) Step(now, slow time.Duration) uint32 {
	if slow <= 0 || b.Seasoned || now-b.Since >= slow {
		return Steps
	}
	return 1 + uint32((now-b.Since)*(Steps-1)/slow)
}

// Weights fills out with the backends' weights in the ring and says when they will change by themselves, 0 for never.
func Weights(out []uint32, backends []Backend, now, slow time.Duration) (next time.Duration) {
	anyRoom := false
	for _, b := range backends {
		anyRoom = anyRoom || b.Weight > 0 && b.Serving && b.Room
	}
	for i, b := range backends {
		out[i] = 0
		if !b.Serving || anyRoom && !b.Room {
			continue
		}
		step := b.Step(now, slow)
		// Weights have sixteen bits: no overflow.
		out[i] = b.Weight * step
		if step < Steps && b.Weight > 0 {
			// Rounded up, so that the step has come by then.
			at := b.Since + (slow*time.Duration(step)+Steps-2)/(Steps-1)
			if next == 0 || at < next {
				next = at
			}
		}
	}
	return next
}

// Scale reduces a limit while a backend starts slowly; something is always left of what there was.
func Scale(limit, step uint32) uint32 {
	if limit == 0 {
		return 0
	}
	return max(1, uint32(uint64(limit)*uint64(step)/Steps))
}
