package balancer

import (
	"fmt"
	"slices"
	"time"

	"github.com/ratchetos/ratchet/plugins/dataplane/balancer/maglev"
	"github.com/ratchetos/ratchet/plugins/dataplane/balancer/steer"
	"github.com/ratchetos/ratchet/plugins/dataplane/balancer/table"
)

// sizes of rings; each keeps the imbalance of a hundredth as many equal backends under one per cent.
var sizes = [...]int{251, 1021, 4099, 16381, 65521}

// ringBudget leaves some room for rings that change their size.
const ringBudget = ringSlots / 32 * 31

// ringSizes chooses a ring for each VIP by the number of its backends, smaller ones when there are too many VIPs.
func ringSizes(vips []*vip) []int {
	chosen, total := make([]int, len(vips)), 0
	cost := func(size int) int { return (size + 31) / 32 * 32 } // the table gives rings whole chunks
	for i, v := range vips {
		for _, s := range sizes {
			if chosen[i] = s; s >= 100*len(v.members) {
				break
			}
		}
		total += cost(chosen[i])
	}
	for i := len(sizes) - 1; i > 0; i-- {
		for j := range chosen {
			if total > ringBudget && chosen[j] == sizes[i] && sizes[i-1] >= 2*len(vips[j].members) {
				total -= cost(chosen[j]) - cost(sizes[i-1])
				chosen[j] = sizes[i-1]
			}
		}
	}
	return chosen
}

// flush brings marked VIPs into force and says when to come back.
func (r *run) flush() time.Duration {
	now := r.part.now()
	r.flushedAt = now
	wait := sweepEvery
	type ring struct {
		v       *vip
		members []maglev.Member
	}
	var rings []ring
	r.mu.Lock()
	for _, v := range r.vips {
		if v.next != 0 && v.next <= now && !v.dirty {
			v.dirty, v.marked = true, now
		}
		if !v.dirty {
			if v.next != 0 {
				wait = min(wait, v.next-now)
			}
			continue
		}
		if v.flushed != 0 && now-v.flushed < vipGap && !v.urgent {
			wait = min(wait, vipGap-(now-v.flushed))
			continue
		}
		v.dirty, v.urgent = false, false
		if members, changed := r.weigh(v, now); changed {
			rings = append(rings, ring{v, members})
		}
	}
	r.mu.Unlock()
	var failed error
	for _, ring := range rings {
		if err := r.setRing(ring.v, ring.members); err != nil {
			failed = fmt.Errorf("ring of %s: %w", ring.v.Name, err)
		}
	}
	if len(rings) > 0 || failed != nil {
		r.setProblem(&r.problems.ring, failed)
	}
	return max(wait, flushGap)
}

// weigh looks at a VIP's members and says whether its ring must be made anew. r.mu is held.
func (r *run) weigh(v *vip, now time.Duration) ([]maglev.Member, bool) {
	states := r.states[:0]
	for i := range v.members {
		m := &v.members[i]
		r.look(v, m, now)
		m.step = m.state.Step(now, m.slow)
		states = append(states, m.state)
	}
	r.states = states
	weights := make([]uint32, len(states))
	ids := make([]table.BackendID, len(states))
	v.next = steer.Weights(weights, states, now, v.SlowStart)
	for i := range v.members {
		ids[i] = v.members[i].id
	}
	if v.ringed && slices.Equal(weights, v.weights) && slices.Equal(ids, v.ids) {
		return nil, false
	}
	v.weights, v.ids, v.ringed, v.flushed = weights, ids, true, now
	members := make([]maglev.Member, 0, len(weights))
	for i, w := range weights {
		if b := v.members[i].backend; w > 0 && b.id != 0 {
			members = append(members, maglev.Member{Key: b.hash, Weight: w, Value: uint16(b.id)})
		}
	}
	return members, true
}

// setRing makes a VIP's ring and puts it into force.
func (r *run) setRing(v *vip, members []maglev.Member) error {
	if cap(r.ring) < v.size {
		r.ring = make([]table.BackendID, v.size)
	}
	ring := r.ring[:v.size]
	n, err := maglev.Fill(ring, members)
	if err == nil {
		err = r.table.SetRing(v.id, ring[:v.size*min(n, 1)])
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		v.ringed, v.dirty = false, true // again after the next pause
		return err
	}
	r.meters.ring.note(r.part.now() - v.marked)
	return nil
}

// markAll has every VIP looked at again.
func (r *run) markAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, v := range r.vips {
		r.mark(v)
	}
}

// mark has one VIP looked at. r.mu is held.
func (r *run) mark(v *vip) {
	if !v.dirty {
		v.dirty, v.marked = true, r.part.now()
	}
}
