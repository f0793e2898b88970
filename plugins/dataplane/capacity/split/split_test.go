package split

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/plugins/dataplane/capacity/report"
)

const ms = time.Millisecond

var (
	histories = flag.Int("histories", 200, "histories of TestNeverMoreThanTheHostTakes")
	firstSeed = flag.Uint64("seed", 1, "of the first history")
)

// box is a balancer as its program and its engine act: D1.
type box struct {
	dispatched, returned uint64
	upTo                 uint64 // limit + accepted of the newest report
	seen                 uint64 // its sequence
	expires              time.Duration
	incarnation          uint64
}

func (b *box) take(now, ttl time.Duration, seq, life uint64, c report.Component) (report.Reply, report.Dispatched, bool) {
	if seq <= b.seen {
		return report.Reply{}, report.Dispatched{}, false
	}
	b.seen, b.upTo, b.expires = seq, 0, now+ttl
	status := report.Applied
	switch {
	case c.Known && life == b.incarnation:
		b.upTo = c.Accepted + uint64(c.Limit)
	case c.Known:
		status = report.Rebase
	}
	return report.Reply{Incarnation: b.incarnation, Sequence: seq, TTL: ttl}, report.Dispatched{Status: status, Dispatched: b.dispatched - b.returned}, true
}

func (b *box) dispatch(now time.Duration) bool {
	if now > b.expires || b.dispatched-b.returned >= b.upTo {
		return false
	}
	b.dispatched++
	return true
}

// event happens at a time; events are few, so a slice is searched.
type event struct {
	at time.Duration
	do func()
}

// world is a host of some capacity behind balancers, over a network that loses, delays and reorders.
type world struct {
	rng      *rand.Rand
	now      time.Duration
	events   []event
	boxes    []*box
	splitter *Splitter
	counted  bool

	capacity, open, flying int
	accepted, sequence     uint64
	worst, served          int
	deaf                   bool // nothing that its only balancer said was ever heard
}

func (w *world) after(least, most time.Duration, do func()) {
	w.events = append(w.events, event{w.now + least + time.Duration(w.rng.Int64N(int64(most-least)+1)), do})
}

func (w *world) step() {
	w.now += ms
	for i := 0; i < len(w.events); i++ {
		if e := w.events[i]; e.at <= w.now {
			w.events[i] = w.events[len(w.events)-1]
			w.events = w.events[:len(w.events)-1]
			i--
			e.do()
		}
	}
}

// arrive sends a connection to one balancer.
func (w *world) arrive(b *box, hold time.Duration) {
	if !b.dispatch(w.now) {
		return
	}
	w.flying++
	w.after(1*ms, 40*ms, func() {
		w.flying--
		w.open++
		w.accepted++
		w.served++
		w.after(hold/2, hold, func() { w.open-- })
	})
	w.worst = max(w.worst, w.open+w.flying-w.capacity)
}

func (w *world) report(ttl time.Duration, loss float64, partitioned int) {
	w.splitter.Measure(w.now, Measurement{Limit: uint32(max(0, w.capacity-w.open)), Accepted: w.accepted, Counted: w.counted})
	for i, b := range w.boxes {
		w.sequence++
		seq := w.sequence
		c, life := w.splitter.Report(w.now, i, seq), w.splitter.balancers[i].incarnation
		if w.rng.Float64() < loss {
			continue
		}
		w.after(0, 30*ms, func() {
			r, d, ok := b.take(w.now, ttl, seq, life, c)
			// A partition of one direction: reports arrive, replies do not.
			if !ok || i == partitioned || w.rng.Float64() < loss {
				return
			}
			w.after(0, 30*ms, func() { w.splitter.Reply(w.now, i, r, d) })
		})
	}
}

// However reports and replies travel, all balancers together never send more than the host takes, and once nothing
// disturbs them any more they use all of it.
func TestNeverMoreThanTheHostTakes(t *testing.T) {
	tried, lost := 0, 0
	for seed := *firstSeed; tried < *histories; seed++ {
		for _, n := range []int{1, 2, 4} {
			for _, counted := range []bool{true, false} {
				ok := t.Run(fmt.Sprintf("seed %d, %d balancers, counted %v", seed, n, counted), func(t *testing.T) {
					w := newWorld(seed, n, counted)
					w.run(t, 3*time.Second, 0.2)
					if w.served == 0 && !w.deaf {
						t.Error("no connection was served at all")
					}
				})
				if tried++; !ok {
					lost++
				}
			}
		}
	}
	t.Logf("soak balancer.history %d tried, %d lost", tried, lost)
}

// What a balancer has dispatched that nobody hears any more is accepted, and hides what another one has on its way. In these
// histories the other one was let send more for it.
func TestSilentBalancerHidesNothing(t *testing.T) {
	for _, seed := range []uint64{74, 165, 167, 223} {
		newWorld(seed, 2, true).run(t, 3*time.Second, 0.2)
	}
}

func newWorld(seed uint64, n int, counted bool) *world {
	w := &world{rng: rand.New(rand.NewPCG(seed, uint64(n))), counted: counted, splitter: New(Options{Balancers: n}), sequence: 10}
	w.capacity = 1 + w.rng.IntN(60)
	for range n {
		w.boxes = append(w.boxes, &box{incarnation: w.rng.Uint64(), dispatched: w.rng.Uint64N(1000)})
	}
	return w
}

func (w *world) run(t *testing.T, span time.Duration, loss float64) {
	t.Helper()
	partitioned := -1
	w.deaf = len(w.boxes) == 1
	for end := w.now + span; w.now < end; w.step() {
		if w.now%(20*ms) == 0 {
			w.report(400*ms, loss, partitioned)
		}
		if w.now%(500*ms) == 0 {
			partitioned = w.rng.IntN(4*len(w.boxes)) - 2*len(w.boxes)
			w.deaf = w.deaf && partitioned == 0
		}
		for range w.rng.IntN(4) {
			w.arrive(w.boxes[w.rng.IntN(len(w.boxes))], 300*ms)
		}
	}
	if w.worst > 0 {
		t.Errorf("%d connections more than the %d that the host takes", w.worst, w.capacity)
	}
}

// With one balancer busy and the other idle the busy one gets nearly all; when they change places, so do the shares.
func TestSharesFollowLoad(t *testing.T) {
	w := newWorld(1, 2, true)
	w.capacity = 100
	for round, busy := range []int{0, 1, 0} {
		for end := w.now + 3*time.Second; w.now < end; w.step() {
			if w.now%(20*ms) == 0 {
				w.report(400*ms, 0, -1)
			}
			w.arrive(w.boxes[busy], time.Second)
		}
		if used := w.open + w.flying; round > 0 && used < 90 {
			t.Errorf("round %d: the busy balancer uses %d of 100", round, used)
		}
	}
	if w.worst > 0 {
		t.Errorf("%d more than the host takes", w.worst)
	}
}

// Connections that came past the balancers do not hide what is on its way later, and such as never arrive are given up.
func TestDrift(t *testing.T) {
	w := newWorld(2, 1, true)
	w.capacity = 50
	w.splitter.o.LostAfter = time.Second
	quiet := func() {
		for end := w.now + 2*time.Second; w.now < end; w.step() {
			if w.now%(20*ms) == 0 {
				w.report(400*ms, 0, -1)
			}
		}
	}
	quiet()
	w.accepted += 1000 // and closed again at once
	quiet()
	b := w.boxes[0]
	if left := b.upTo - (b.dispatched - b.returned); left != 50 {
		t.Errorf("after connections past the balancer its credit is %d, want 50", left)
	}
	for range 20 { // dispatched, and nothing ever comes of them
		b.dispatch(w.now)
	}
	w.report(400*ms, 0, -1)
	for range 70 {
		w.step()
	}
	if left := b.upTo - b.dispatched; left != 30 {
		t.Errorf("with 20 on their way the credit is %d, want 30", left)
	}
	quiet()
	quiet()
	if left := b.upTo - b.dispatched; left != 50 {
		t.Errorf("with 20 given up the credit is %d, want 50", left)
	}
}

// A silent balancer keeps what it was granted until that must have run out; then the others have it.
func TestSilentBalancerIsInherited(t *testing.T) {
	w := newWorld(3, 2, true)
	w.capacity = 40
	for end := w.now + 2*time.Second; w.now < end; w.step() {
		if w.now%(20*ms) == 0 {
			w.report(400*ms, 0, -1)
		}
	}
	first := w.boxes[1].upTo - w.boxes[1].dispatched
	if first > 39 {
		t.Fatalf("one of two balancers holds %d of 40", first)
	}
	for end := w.now + 3*time.Second; w.now < end; w.step() {
		if w.now%(20*ms) == 0 {
			w.report(400*ms, 0, 0)
		}
	}
	if left := w.boxes[1].upTo - w.boxes[1].dispatched; left != 40 {
		t.Errorf("with the other silent the balancer's credit is %d, want 40", left)
	}
}

// The agent starts anew: the balancers' counts are taken as they are, and the rule still holds.
func TestRestartedReporter(t *testing.T) {
	w := newWorld(4, 2, true)
	w.capacity = 30
	w.run(t, 2*time.Second, 0.1)
	w.splitter = New(Options{Balancers: 2})
	w.accepted = uint64(w.open)
	w.run(t, 2*time.Second, 0.1)
	for i := range w.boxes {
		w.boxes[i].incarnation++
		w.boxes[i].dispatched, w.boxes[i].upTo = 0, 0
	}
	w.run(t, 2*time.Second, 0.1)
}
