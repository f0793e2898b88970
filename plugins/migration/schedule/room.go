package schedule

import (
	"fmt"
	"time"
)

// Room is a host's memory as the scheduler sees it: what arriving VMs may take of it in the next hours, in bytes.
type Room struct {
	Host string
	// Now is what was free at Looked.
	Now    float64
	Looked time.Time
	// From is when the first slot of Sure begins, Step how long each is: what is free by the forecast that is exceeded one time in
	// ten. After the last one, it goes on. Empty is Now, always.
	From time.Time
	Step time.Duration
	Sure []float64
}

// arrival is memory that is promised to a job at its destination. What was there before is in what is measured; what has left is
// counted when it is.
type arrival struct {
	job   string
	room  int
	from  time.Time
	bytes float64
}

// Unseen is how much of a move's memory had not arrived yet when its destination was looked at, in bytes, if it began and ends as the
// decision says: it arrives evenly.
func (d Decision) Unseen(looked time.Time) float64 {
	long := d.End.Sub(d.Start).Seconds()
	if long <= 0 || !looked.After(d.Start) {
		return float64(d.Memory)
	}
	return float64(d.Memory) * max(0, d.End.Sub(looked).Seconds()) / long
}

// slot is how many slots lie before a time.
func (r *Room) slot(at time.Time) int {
	if len(r.Sure) == 0 {
		return 0
	}
	return int(max(0, at.Sub(r.From)) / r.Step)
}

// free is what nobody has at a time. The forecast begins with the slot after the one that was looked at.
func (c *calendar) free(room int, now, at time.Time) float64 {
	r, v := &c.rooms[room], c.rooms[room].Now
	if len(r.Sure) > 0 && r.slot(at) > r.slot(now) {
		v = r.Sure[min(r.slot(at), len(r.Sure)-1)]
	}
	for _, a := range c.arrivals {
		if a.room == room && !at.Before(a.from) {
			v -= a.bytes
		}
	}
	return v
}

// roomOf is the index of a job's destination, -1 if its memory is not watched.
func (c *calendar) roomOf(j Job) int {
	for i, r := range c.rooms {
		if r.Host == j.To && j.Memory > 0 {
			return i
		}
	}
	return -1
}

// lowest is when from start on a destination has the least free, and how much that is: until end by the forecast, and whenever
// others arrive, who have been promised theirs.
func (p *placer) lowest(room int, start, end time.Time) (when time.Time, bytes float64) {
	when, bytes = start, p.free(room, p.now, start)
	look := func(at time.Time) {
		if v := p.free(room, p.now, at); at.After(start) && v < bytes {
			when, bytes = at, v
		}
	}
	r := &p.rooms[room]
	for k := r.slot(start) + 1; k < len(r.Sure) && k <= r.slot(end); k++ {
		look(r.From.Add(time.Duration(k) * r.Step))
	}
	for _, a := range p.arrivals {
		if a.room == room {
			look(a.from)
		}
	}
	return when, bytes
}

// fits says whether a job's destination has room for it from start to end.
func (p *placer) fits(j Job, start, end time.Time) bool { return p.crowded(j, start, end) == "" }

// crowded says what a destination lacks between two times; "" if it has room.
func (p *placer) crowded(j Job, start, end time.Time) string {
	i := p.roomOf(j)
	if i < 0 {
		return ""
	}
	when, bytes := p.lowest(i, start, end)
	if bytes >= float64(j.Memory) {
		return ""
	}
	return fmt.Sprintf("%s has %s of memory free at %s, and %s takes %s", j.To, Bytes(uint64(max(0, bytes))), at(when), j.VM, Bytes(j.Memory))
}

// roomy are the times between from and to at which a destination begins to have room for a job.
func (p *placer) roomy(j Job, from, to time.Time) (list []time.Time) {
	i := p.roomOf(j)
	if i < 0 {
		return nil
	}
	r := &p.rooms[i]
	had := p.free(i, p.now, from) >= float64(j.Memory)
	for k := r.slot(from) + 1; k < len(r.Sure); k++ {
		at := r.From.Add(time.Duration(k) * r.Step)
		if !at.Before(to) {
			break
		}
		has := p.free(i, p.now, at) >= float64(j.Memory)
		if has && !had && at.After(from) {
			list = append(list, at)
		}
		had = has
	}
	return list
}

// arrive promises a job its memory from a time on.
func (p *placer) arrive(j Job, from time.Time, bytes float64) {
	if i := p.roomOf(j); i >= 0 {
		p.arrivals = append(p.arrivals, arrival{j.ID, i, from, bytes})
	}
}
