package engine

import (
	"slices"
	"time"
)

// spread says how many leases to want of each agent. Those in use stay where they are, for the flows on them; what is
// missing is wanted of the agents that answer and have room, the one with the fewest first. The leases of an agent that
// has been silent for half a TTL count as missing while they last: if it comes back, the youngest surplus goes.
func (s *Set) spread(now time.Duration) []int {
	n := len(s.agents)
	wants := make([]int, n)
	if n == 0 {
		return wants
	}
	var able, short, unknown []int
	counted := 0
	start := int(hash(s.o.Host, s.o.Service) % uint64(n)) // whom the odd lease is wanted of differs
	for k := range n {
		i := (start + k) % n
		wants[i] = s.of(i)
		switch a := &s.agents[i]; {
		case !a.known && (a.seq == 0 || now < a.first+patience):
			// Its part is left to it for a moment, or the fastest agent would get all.
			wants[i] = max(wants[i], a.wanted)
			counted += wants[i]
			able = append(able, i)
		case !a.known:
			unknown = append(unknown, i)
		case a.status == Wait && now < a.heard+a.ttl/2:
			// It has restarted. What it granted is good for now; near its end another agent's is better.
			for _, u := range s.leases {
				if u.Agent == i && !u.Draining && u.Expires-now > a.ttl/3 {
					counted++
				}
			}
		case a.status != OK || now >= a.heard+max(a.ttl/2, firstRetry):
		case a.short:
			short = append(short, i)
			counted += wants[i]
		default:
			able = append(able, i)
			counted += wants[i]
		}
	}
	for _, candidates := range [][]int{able, unknown} {
		for counted < s.o.Leases && len(candidates) > 0 {
			least := candidates[0]
			for _, i := range candidates {
				if wants[i] < wants[least] {
					least = i
				}
			}
			wants[least]++
			counted++
		}
	}
	for _, i := range short { // all of it, should one have room again
		wants[i] += max(0, s.o.Leases-counted)
	}
	for surplus := counted - s.o.Leases; surplus > 0; surplus-- {
		for k := len(s.leases) - 1; k >= 0; k-- {
			if i := s.leases[k].Agent; !s.leases[k].Draining && (slices.Contains(able, i) || slices.Contains(short, i)) {
				wants[i] = max(0, wants[i]-1)
				s.leases = slices.Delete(s.leases, k, k+1)
				break
			}
		}
	}
	for i := range wants {
		wants[i] = min(wants[i], MaxLeases)
	}
	return wants
}

// of counts an agent's leases that take new flows.
func (s *Set) of(agent int) (n int) {
	for _, u := range s.leases {
		if u.Agent == agent && !u.Draining {
			n++
		}
	}
	return n
}
