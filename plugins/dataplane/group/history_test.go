package group

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var (
	histories = flag.Int("histories", 150, "histories of TestHistories")
	seed      = flag.Uint64("seed", 1, "of the first history")
)

// mutant breaks something that a history must show.
type mutant int

const (
	none          mutant = iota
	leaseFromWord        // a client counts its lease from the answer
	forgetsGrants        // a new process of the control plane does not wait for what its last one granted
	forgetsTerm          // a new process of the agent follows whoever comes first
	tellsFirst           // a change is told before it is durable
)

// TestHistories lets two control planes and three clients live through changes, lost, late and reordered messages,
// crashes in the middle of a change, restarts and takeovers, and judges what every client has programmed.
func TestHistories(t *testing.T) {
	lost := 0
	for i := range *histories {
		if err := live(*seed+uint64(i), none); err != nil {
			if lost++; lost <= 5 {
				t.Errorf("history %d: %v", *seed+uint64(i), err)
			}
		}
	}
	t.Logf("soak interface-group.history %d tried, %d lost", *histories, lost)
}

func TestHistoriesFindMutants(t *testing.T) {
	for m, name := range map[mutant]string{
		leaseFromWord: "lease counted from the answer", forgetsGrants: "grants forgotten with the process",
		forgetsTerm: "term forgotten by the agent", tellsFirst: "told before it is durable",
	} {
		t.Run(name, func(t *testing.T) {
			for i := range uint64(500) {
				if live(i, m) != nil {
					return
				}
			}
			t.Error("500 histories show nothing")
		})
	}
}

const historyLease = 3 * time.Second

type plane struct {
	state   *memory
	store   *Store
	clients Clients
	origin  uint32
}

type host struct {
	name       string
	follower   *Follower
	programmed map[uint32]*Group
	applied    Version // what the pinned maps say
	until      time.Duration
	grantor    *plane // of until
}

// word is an answer on its way.
type word struct {
	to     *host
	from   *plane
	asked  Request
	update *Update // or
	have   Version
	sent   time.Duration
}

type history struct {
	r      *rand.Rand
	mutant mutant
	now    time.Duration
	planes []*plane
	hosts  []*host
	late   []word
	// told is what each version was when it was committed.
	told map[Version]map[uint32]*Group
}

// live runs one history.
func live(seed uint64, m mutant) error {
	h := &history{r: rand.New(rand.NewPCG(seed, 7)), mutant: m, told: map[Version]map[uint32]*Group{}}
	for i := range 2 {
		h.planes = append(h.planes, &plane{state: &memory{m: map[string][]byte{}}, store: NewStore(), clients: Clients{Lease: historyLease}, origin: uint32(i + 1)})
	}
	for i := range 3 {
		h.hosts = append(h.hosts, &host{name: fmt.Sprintf("h%d", i), follower: NewFollower(Version{}), programmed: map[uint32]*Group{}})
	}
	if _, err := h.change(h.planes[0]); err != nil {
		return err
	}
	for step := range 250 {
		if err := h.step(); err != nil {
			return fmt.Errorf("step %d at %s: %w", step, h.now, err)
		}
		if err := h.judge(); err != nil {
			return fmt.Errorf("step %d at %s: %w", step, h.now, err)
		}
	}
	return h.settle()
}

func pickOne[T any](h *history, all []T) T { return all[h.r.IntN(len(all))] }

func (h *history) step() error {
	p, c := pickOne(h, h.planes), pickOne(h, h.hosts)
	switch n := h.r.IntN(100); {
	case n < 20:
		_, err := h.change(p)
		return err
	case n < 50:
		return h.pull(p, c)
	case n < 75:
		h.confirm(p, c)
	case n < 85:
		h.now += time.Duration(h.r.Int64N(int64(historyLease / 2)))
	case n < 91 && len(h.late) > 0:
		i := h.r.IntN(len(h.late))
		w := h.late[i]
		h.late = append(h.late[:i], h.late[i+1:]...)
		return h.deliver(w)
	case n < 94:
		return h.restart(p)
	case n < 97: // the agent's process; its program stays, what was on its way to it does not
		h.late = slices.DeleteFunc(h.late, func(w word) bool { return w.to == c })
		c.follower = NewFollower(c.applied)
		if h.mutant == forgetsTerm {
			c.follower = NewFollower(Version{})
		}
	case n < 98:
		c := p.store.Promote(p.origin)
		if err := h.commit(p, c); err != nil {
			return err
		}
		// The other one's clients have leases that this one knows nothing of.
		p.clients.Unknown = h.now + historyLease
	}
	return nil
}

// change makes one at random; now and then it is lost half way with the process.
func (h *history) change(p *plane) (told bool, err error) {
	if p.store.Version().Term == 0 {
		if p != h.planes[0] || p.store.Fenced() {
			return false, nil
		}
		if err := h.commit(p, p.store.Promote(p.origin)); err != nil {
			return false, err
		}
	}
	name, member, vni := fmt.Sprintf("g%d", h.r.IntN(3)), fmt.Sprintf("m%d", h.r.IntN(4)), uint32(1+h.r.IntN(4))
	at := Location{Underlay: netip.AddrFrom4([4]byte{10, 0, 0, byte(1 + h.r.IntN(9))}), MAC: [6]byte{2}, Epoch: uint16(h.r.IntN(9))}
	var c Change
	switch h.r.IntN(8) {
	case 0:
		c, err = p.store.Create(name, []netip.Addr{netip.AddrFrom4([4]byte{10, 9, 0, 1 + name[1] - '0'})}, Closed)
	case 1:
		c, err = p.store.Delete(name)
	case 2, 3:
		c, err = p.store.Add(name, Member{Name: member, VNI: vni, Location: at})
	case 4:
		c, err = p.store.Remove(name, member)
	case 5:
		c, err = p.store.Drain(name, member, h.r.IntN(2) == 0)
	case 6:
		c, err = p.store.Moved(vni, at)
	case 7:
		c, err = p.store.SetDown(vni, h.r.IntN(2) == 0)
	}
	if err != nil || c.Version == (Version{}) {
		return false, nil // refused: no such member, fenced
	}
	return true, h.commit(p, c)
}

func (h *history) commit(p *plane, c Change) error {
	if h.r.IntN(15) == 0 {
		p.state.fail = errors.New("power cut")
		if h.mutant == tellsFirst {
			p.store.Commit(c)
			h.note(p)
			for _, host := range h.hosts {
				if err := h.pull(p, host); err != nil {
					return err
				}
			}
		}
	}
	if err := save(context.Background(), p.state, p.store, c); err != nil {
		return h.restart(p)
	}
	p.store.Commit(c)
	h.note(p)
	return nil
}

// note remembers what a version is. The same version is never two things.
func (h *history) note(p *plane) {
	now := map[uint32]*Group{}
	for _, g := range p.store.Groups() {
		now[g.ID] = g
	}
	h.told[p.store.Version()] = now
}

func (h *history) restart(p *plane) error {
	store, err := load(context.Background(), p.state)
	if err != nil {
		return err
	}
	p.state.fail = nil
	p.store, p.clients = store, Clients{Lease: historyLease, Unknown: h.now + historyLease}
	if h.mutant == forgetsGrants {
		p.clients.Unknown = 0
	}
	return nil
}

func (h *history) pull(p *plane, c *host) error {
	asked := c.follower.Request()
	p.store.Seen(asked.Have)
	p.clients.Applied(c.name, asked.Have)
	if !p.store.Leads() || !p.store.News(asked) {
		return nil
	}
	u := p.store.Since(asked)
	return h.send(word{to: c, from: p, asked: asked, update: &u})
}

func (h *history) confirm(p *plane, c *host) {
	have, sent := c.follower.Applied(), h.now
	h.now += time.Duration(h.r.Int64N(int64(historyLease / 4))) // on the way
	p.store.Seen(have)
	p.clients.Applied(c.name, have)
	if !p.store.Leads() || have != p.store.Version() {
		return
	}
	p.clients.Granted(c.name, h.now)
	_ = h.send(word{to: c, from: p, have: have, sent: sent}) // a confirmation cannot fail
}

// send delivers a word now, later, or never.
func (h *history) send(w word) error {
	switch h.r.IntN(10) {
	case 0:
		return nil
	case 1, 2:
		h.late = append(h.late, w)
		return nil
	}
	return h.deliver(w)
}

func (h *history) deliver(w word) error {
	c := w.to
	if w.update == nil {
		until := w.sent + historyLease
		if h.mutant == leaseFromWord {
			until = h.now + historyLease
		}
		if until > c.until {
			c.until, c.grantor = until, w.from
		}
		return nil
	}
	changed, removed, err := c.follower.Step(w.asked, *w.update)
	if errors.Is(err, ErrOlder) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, g := range changed {
		c.programmed[g.ID] = g
	}
	for _, id := range removed {
		delete(c.programmed, id)
	}
	v := c.follower.Version()
	if v != w.update.Version {
		return nil
	}
	for id := range c.programmed { // what an earlier process left
		if c.follower.groups[id] == nil {
			delete(c.programmed, id)
		}
	}
	if v.Compare(c.applied) < 0 {
		return fmt.Errorf("%s went back from %s to %s", c.name, c.applied, v)
	}
	c.applied = v
	c.follower.Done()
	return nil
}

// judge holds every client against what was told, and every promise against the clients.
func (h *history) judge() error {
	for _, c := range h.hosts {
		if want, known := h.told[c.applied]; known && c.follower.Version() == c.applied && !bytes.Equal(wire(want), wire(c.programmed)) {
			return fmt.Errorf("%s has at %s not what that was:\n%s", c.name, c.applied, cmp.Diff(want, c.programmed, addresses))
		}
	}
	for _, p := range h.planes {
		if !p.store.Leads() {
			continue
		}
		if settled, _ := p.clients.Settled(p.store.Version(), h.now); !settled {
			continue
		}
		for _, c := range h.hosts {
			if c.grantor == p && c.until > h.now && c.applied.Compare(p.store.Version()) < 0 {
				return fmt.Errorf("%s is settled, and %s uses %s for another %s", p.store.Version(), c.name, c.applied, c.until-h.now)
			}
		}
	}
	return nil
}

// wire is all that clients are told of groups.
func wire(groups map[uint32]*Group) (b []byte) {
	for _, id := range slices.Sorted(maps.Keys(groups)) {
		b = groups[id].append(b)
	}
	return b
}

// settle lets everything arrive: all clients end with the highest term's groups.
func (h *history) settle() error {
	h.late = nil
	for range 20 {
		for _, p := range h.planes {
			for _, c := range h.hosts {
				asked := c.follower.Request()
				p.store.Seen(asked.Have)
				if p.store.Leads() && p.store.News(asked) {
					u := p.store.Since(asked)
					if err := h.deliver(word{to: c, from: p, asked: asked, update: &u}); err != nil {
						return err
					}
				}
			}
		}
	}
	leading := 0
	for _, p := range h.planes {
		if !p.store.Leads() {
			continue
		}
		leading++
		for _, c := range h.hosts {
			if c.applied != p.store.Version() {
				return fmt.Errorf("%s ended at %s, %s leads", c.name, c.applied, p.store.Version())
			}
		}
	}
	if leading != 1 {
		return fmt.Errorf("%d control planes lead in the end", leading)
	}
	return h.judge()
}
