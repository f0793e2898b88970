package failover

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// world is boxes, hosts, their clocks, disks, packet programs and the network between them, at 1 ms a step.
type world struct {
	r      *rand.Rand
	now    time.Duration
	o      Options
	vnis   []Interface
	boxes  []*simBox
	hosts  []*simHost
	calls  []call
	owners map[string]Candidate // by VNI and epoch: who was ever assigned it
	moves  int
	pace   int // about as many ms between two disturbances
}

// call is something that happens at a time.
type call struct {
	at time.Duration
	do func()
}

type simBox struct {
	w       *world
	n       int
	e       *Engine
	life    int // a restart ends what was under way
	paused  time.Duration
	inbox   []func()
	term    uint64 // on disk
	records map[uint32]Record
	cut     map[*simHost]bool
}

type simHost struct {
	w       *world
	name    string
	f       *Follower
	life    int
	offset  time.Duration
	drift   time.Duration // gained each second
	paused  time.Duration
	inbox   []func()
	sick    map[string]bool
	nextAt  time.Duration
	pulling bool
	deaf    bool // to assignments
	// the packet program's maps, which outlive the agent
	lease    time.Duration
	attached map[key]uint64
}

func newWorld(seed uint64, boxes, hosts int, m mutant) *world {
	w := &world{r: rand.New(rand.NewPCG(seed, 1)), owners: map[string]Candidate{}}
	w.o = Options{
		Peers: boxes - 1, HoldDown: 50 * time.Millisecond, HoldDownMax: time.Second, Grace: 300 * time.Millisecond,
		Misses: 2 + int(seed/2%2), mutant: m,
	}
	w.pace = 20 << w.r.IntN(5)
	for i := range hosts {
		h := &simHost{
			w: w, name: fmt.Sprintf("h%d", i), sick: map[string]bool{}, attached: map[key]uint64{},
			offset: time.Duration(w.r.IntN(1e6)) * time.Millisecond, drift: time.Duration(w.r.IntN(200)-100) * time.Microsecond,
		}
		h.start()
		w.hosts = append(w.hosts, h)
	}
	for id := range uint32(3) {
		v := Interface{ID: id + 1, MAC: [6]byte{2, 0, 0, 0, 0, byte(id)}}
		for k := range hosts {
			if k < 3 || k == int(id) {
				h := w.hosts[(int(id)+k)%hosts]
				v.Candidates = append(v.Candidates, Candidate{h.name, "i"})
			}
		}
		if id == 2 { // a stand-by on the same host
			v.Candidates = append(v.Candidates[:1:1], append([]Candidate{{v.Candidates[0].Host, "j"}}, v.Candidates[1:]...)...)
		}
		w.vnis = append(w.vnis, v)
	}
	for i := range boxes {
		b := &simBox{w: w, n: i, records: map[uint32]Record{}, cut: map[*simHost]bool{}}
		b.start()
		w.boxes = append(w.boxes, b)
	}
	return w
}

func (b *simBox) start() {
	b.life++
	o := b.w.o
	o.Self = uint8(b.n + 1)
	b.e = New(o)
	var names []string
	for _, h := range b.w.hosts {
		names = append(names, h.name)
	}
	b.e.Voters(names)
	b.e.Define(b.w.now, b.w.vnis)
	b.e.Restore(b.term, b.records)
}

func (h *simHost) start() {
	h.life++
	h.pulling, h.inbox = false, nil
	h.f = NewFollower(2)
	h.f.mutant = h.w.o.mutant
	var known []Known
	for k, epoch := range h.attached {
		known = append(known, Known{k.id, k.instance, epoch, true})
	}
	h.f.Resume(known)
}

func (h *simHost) clock() time.Duration {
	return h.offset + h.w.now + time.Duration(int64(h.w.now)/int64(time.Second))*h.drift
}

// later runs something after a network's delay, or never.
func (w *world) later(b *simBox, h *simHost, life *int, inbox *[]func(), do func()) {
	was := *life
	if b.cut[h] || w.r.IntN(50) == 0 {
		return
	}
	delay := time.Duration(w.r.IntN(3)) * time.Millisecond
	if w.r.IntN(200) == 0 {
		delay = time.Duration(w.r.IntN(400)) * time.Millisecond
	}
	w.calls = append(w.calls, call{w.now + delay, func() {
		*inbox = append(*inbox, func() {
			if *life == was {
				do()
			}
		})
	}})
}

func (w *world) step() {
	w.now += time.Millisecond
	due := slices.DeleteFunc(slices.Clone(w.calls), func(c call) bool { return c.at > w.now })
	w.calls = slices.DeleteFunc(w.calls, func(c call) bool { return c.at <= w.now })
	for _, c := range due {
		c.do()
	}
	for _, b := range w.boxes {
		if b.paused > w.now {
			continue
		}
		for _, do := range b.inbox {
			do()
		}
		b.inbox = nil
		if w.now%(10*time.Millisecond) == 0 {
			b.e.Tick(w.now)
		}
		b.act()
	}
	for _, h := range w.hosts {
		if h.paused > w.now {
			continue
		}
		for _, do := range h.inbox {
			do()
		}
		h.inbox = nil
		if w.now >= h.nextAt {
			h.nextAt = w.now + 50*time.Millisecond
			h.beat()
		}
	}
}

func (b *simBox) act() {
	for _, a := range b.e.Take() {
		life, disk := b.life, time.Duration(b.w.r.IntN(8))*time.Millisecond
		switch a := a.(type) {
		case StoreTerm:
			b.w.calls = append(b.w.calls, call{b.w.now + disk, func() {
				if b.life == life {
					b.term = a.Term
					b.e.TermStored(b.w.now, a.Term)
				}
			}})
		case Store:
			b.w.calls = append(b.w.calls, call{b.w.now + disk, func() {
				if b.life == life {
					b.records[a.Interface] = a.Record
					b.e.Stored(b.w.now, a.Interface, a.Record)
				}
			}})
		case Poke:
			for _, h := range b.w.hosts {
				if h.name == a.Host {
					b.w.later(b, h, &h.life, &h.inbox, func() { h.reply(b, 0, a.Reply) })
				}
			}
		case Moved:
			if a.Location.Up {
				b.w.moves++
			}
		}
	}
}

func (h *simHost) beat() {
	for _, v := range h.f.Entries() {
		k := key{v.Interface, v.Instance}
		if s, must := h.f.Health(k.id, k.instance, !h.sick[k.instance]); must {
			delete(h.attached, k)
			h.f.Done(s, true)
		}
	}
	for n, b := range h.w.boxes {
		m := h.f.Beat(h.clock(), n)
		m.Incarnation = uint64(h.life)
		sent := h.clock()
		h.w.later(b, h, &b.life, &b.inbox, func() {
			r := b.e.Beat(h.w.now, h.name, m)
			b.act()
			h.w.later(b, h, &h.life, &h.inbox, func() { h.reply(b, sent, r) })
		})
	}
}

func (h *simHost) reply(b *simBox, sent time.Duration, r Reply) {
	until, pull := h.f.Reply(h.clock(), sent, b.n, r)
	h.lease = max(h.lease, until)
	if !pull || h.pulling {
		return
	}
	h.pulling = true
	life := h.life
	h.w.calls = append(h.w.calls, call{h.w.now + 20*time.Millisecond, func() { // a call's deadline
		if h.life == life {
			h.pulling = false
		}
	}})
	known := h.f.Known()
	h.w.later(b, h, &b.life, &b.inbox, func() {
		a, ok := b.e.Pull(h.w.now, h.name, known)
		b.act()
		if ok && !h.deaf {
			a.Entries = slices.Clone(a.Entries)
			h.w.later(b, h, &h.life, &h.inbox, func() { h.assign(a) })
		}
	})
}

func (h *simHost) assign(a Assignment) {
	for _, e := range a.Entries { // as the agent does: health is looked at before anything is attached
		h.f.Health(e.Interface, e.Instance, !h.sick[e.Instance])
	}
	steps, ok := h.f.Assign(h.clock(), a)
	if !ok {
		return
	}
	for _, s := range steps {
		k := key{s.Interface, s.Instance}
		if s.Attach {
			h.attached[k] = s.Epoch
		} else {
			delete(h.attached, k)
		}
		h.f.Done(s, true)
	}
	h.f.Applied(a)
	h.beat()
}

// check says what must never be: two hosts whose programs let packets of one VNI through, or one epoch at two
// candidates.
func (w *world) check() error {
	for _, v := range w.vnis {
		var holders []Candidate
		for _, h := range w.hosts {
			for k, epoch := range h.attached {
				if k.id != v.ID {
					continue
				}
				if h.lease > h.clock() {
					holders = append(holders, Candidate{h.name, k.instance})
				}
				at := fmt.Sprint(k.id, "@", epoch)
				c := Candidate{h.name, k.instance}
				if o, known := w.owners[at]; known && o != c {
					return fmt.Errorf("epoch %d of VNI %d was at %s and is at %s", epoch, k.id, o, c)
				}
				w.owners[at] = c
			}
		}
		if len(holders) > 1 {
			return fmt.Errorf("VNI %d is at %v", v.ID, holders)
		}
	}
	return nil
}

// disturb does something bad.
func (w *world) disturb() {
	h, b := w.hosts[w.r.IntN(len(w.hosts))], w.boxes[w.r.IntN(len(w.boxes))]
	v := w.vnis[w.r.IntN(len(w.vnis))]
	long := w.now + time.Duration(w.r.IntN(800))*time.Millisecond
	switch w.r.IntN(16) {
	case 0:
		h.paused = long
	case 1:
		b.paused = long
	case 2:
		b.start()
	case 3:
		h.start()
	case 4:
		b.cut[h] = true
	case 5, 6: // each host hears one box
		for _, h := range w.hosts {
			side := w.r.IntN(len(w.boxes))
			for i, b := range w.boxes {
				b.cut[h] = i != side
			}
		}
	case 7, 8:
		clear(b.cut)
	case 9:
		h.deaf = !h.deaf
	case 10, 11, 12:
		h.sick[[]string{"i", "j"}[w.r.IntN(2)]] = w.r.IntN(2) == 0
	default:
		_ = b.e.Move(w.now, v.ID, v.Candidates[w.r.IntN(len(v.Candidates))])
	}
}

// heal ends all that is bad.
func (w *world) heal() {
	for _, b := range w.boxes {
		b.paused = 0
		clear(b.cut)
	}
	for _, h := range w.hosts {
		h.paused, h.deaf = 0, false
		clear(h.sick)
	}
}
