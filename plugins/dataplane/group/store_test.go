package group

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
)

// memory is a StateStore.
type memory struct {
	m    map[string][]byte
	fail error // of the next Put
}

func (s *memory) Get(_ context.Context, key string) ([]byte, error) { return s.m[key], nil }

func (s *memory) Put(_ context.Context, key string, value []byte) error {
	if err := s.fail; err != nil {
		s.fail = nil
		return err
	}
	s.m[key] = slices.Clone(value)
	return nil
}

func (s *memory) Delete(_ context.Context, key string) error { delete(s.m, key); return nil }

func (s *memory) List(_ context.Context, prefix string) ([]string, error) {
	var keys []string
	for k := range s.m {
		if strings.HasPrefix(k, prefix) {
			keys = append(keys, k)
		}
	}
	sort.Strings(keys)
	return keys, nil
}

// bench is boxes and the clients that follow them.
type bench struct {
	boxes   map[string]*box
	clients map[string]*Follower
	now     time.Duration
}

type box struct {
	state   *memory
	store   *Store
	clients Clients
}

func (b *box) change(f func(*Store) (Change, error)) string {
	run := func(f func(*Store) (Change, error)) (Version, error) {
		c, err := f(b.store)
		if err != nil || c.Version == (Version{}) {
			return Version{}, err
		}
		if err := save(context.Background(), b.state, b.store, c); err != nil {
			return Version{}, err
		}
		b.store.Commit(c)
		return c.Version, nil
	}
	if b.store.Version().Term == 0 && !b.store.Fenced() {
		_, _ = run(func(s *Store) (Change, error) { return s.Promote(1), nil })
	}
	v, err := run(f)
	switch {
	case err != nil:
		return "error: " + err.Error() + "\n"
	case v == (Version{}):
		return "nothing to change\n"
	}
	return v.String() + "\n"
}

func describe(g *Group) string {
	out := fmt.Sprintf("%d %s@%d %v %s:", g.ID, g.Name, g.Changed, g.Addresses, g.Policy)
	for _, m := range g.Members {
		out += fmt.Sprintf(" %s(slot %d gen %d %s vni %d at %s epoch %d)", m.Name, m.Slot, m.Generation, m.State, m.VNI, m.Underlay, m.Epoch)
	}
	return out + "\n"
}

// TestStore runs scripts over one or two boxes and their clients: every message goes through the codec, every change
// through the state store.
func TestStore(t *testing.T) {
	datadriven.Walk(t, "testdata/store", func(t *testing.T, path string) {
		w := &bench{boxes: map[string]*box{}, clients: map[string]*Follower{}}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			out := ""
			for line := range strings.SplitSeq(strings.TrimSpace(d.Input), "\n") {
				out += w.step(t, strings.Fields(line))
			}
			return out
		})
	})
}

func (w *bench) step(t *testing.T, f []string) string {
	arg := func(i int) string {
		if i < len(f) {
			return f[i]
		}
		return ""
	}
	number := func(i int) int {
		n, err := strconv.Atoi(arg(i))
		if err != nil {
			t.Fatalf("%v: %v", f, err)
		}
		return n
	}
	if arg(0) == "sleep" {
		d, err := time.ParseDuration(arg(1))
		if err != nil {
			t.Fatal(err)
		}
		w.now += d
		return ""
	}
	if arg(0) == "client" {
		w.clients[arg(1)] = NewFollower(Version{})
		return ""
	}
	if arg(1) == "start" { // a new process over the same state
		state := &memory{m: map[string][]byte{}}
		clients := Clients{Lease: 3 * time.Second}
		if old := w.boxes[arg(0)]; old != nil {
			state, clients.Unknown = old.state, w.now+clients.Lease
		}
		store, err := load(t.Context(), state)
		if err != nil {
			return "error: " + err.Error() + "\n"
		}
		w.boxes[arg(0)] = &box{state: state, store: store, clients: clients}
		return store.Version().String() + "\n"
	}
	b := w.boxes[arg(0)]
	if b == nil {
		t.Fatalf("%v: no such box", f)
	}
	switch arg(1) {
	case "promote":
		return b.change(func(s *Store) (Change, error) { return s.Promote(2), nil })
	case "create":
		return b.change(func(s *Store) (Change, error) {
			var as []netip.Addr
			for _, a := range strings.Split(arg(3), ",") {
				as = append(as, netip.MustParseAddr(a))
			}
			policy := Closed
			if arg(4) != "" {
				var err error
				if policy, err = ParsePolicy(arg(4)); err != nil {
					return Change{}, err
				}
			}
			return s.Create(arg(2), as, policy)
		})
	case "delete":
		return b.change(func(s *Store) (Change, error) { return s.Delete(arg(2)) })
	case "add":
		return b.change(func(s *Store) (Change, error) {
			m := Member{Name: arg(3), VNI: uint32(number(4))}
			if arg(5) != "" {
				m.Location = Location{Underlay: netip.MustParseAddr(arg(5)), MAC: [6]byte{2}, Epoch: 1}
			}
			return s.Add(arg(2), m)
		})
	case "remove":
		return b.change(func(s *Store) (Change, error) { return s.Remove(arg(2), arg(3)) })
	case "drain", "undrain":
		return b.change(func(s *Store) (Change, error) { return s.Drain(arg(2), arg(3), arg(1) == "drain") })
	case "moved":
		return b.change(func(s *Store) (Change, error) {
			return s.Moved(uint32(number(2)), Location{Underlay: netip.MustParseAddr(arg(3)), MAC: [6]byte{2}, Epoch: uint16(number(4))})
		})
	case "down", "up":
		return b.change(func(s *Store) (Change, error) { return s.SetDown(uint32(number(2)), arg(1) == "down") })
	case "fail":
		b.state.fail = errors.New("disk full")
		return ""
	case "show":
		out := fmt.Sprintf("%s leads=%v\n", b.store.Version(), b.store.Leads())
		for _, g := range b.store.Groups() {
			out += describe(g)
		}
		return out
	case "clients":
		out := ""
		for _, s := range b.clients.List(w.now) {
			out += fmt.Sprintf("%s %s lapsed=%v\n", s.Host, s.Applied, s.Lapsed)
		}
		return out
	case "settled":
		settled, until := b.clients.Settled(b.store.Version(), w.now)
		if settled {
			return "yes\n"
		}
		return fmt.Sprintf("no, in %s\n", until-w.now)
	case "pull":
		return w.pull(t, b, arg(2))
	case "confirm":
		ack, err := ParseAck(Ack{Applied: w.clients[arg(2)].Applied()}.Append(nil))
		if err != nil {
			t.Fatal(err)
		}
		v := ack.Applied
		b.store.Seen(v)
		b.clients.Applied(arg(2), v)
		if !b.store.Leads() {
			return "does not lead\n"
		}
		if v != b.store.Version() {
			return "not current\n"
		}
		b.clients.Granted(arg(2), w.now)
		return "confirmed\n"
	}
	t.Fatalf("unknown command %v", f)
	return ""
}

// pull lets a client ask until there is no more.
func (w *bench) pull(t *testing.T, b *box, name string) string {
	f, out := w.clients[name], ""
	for more := true; more; {
		asked, err := ParseRequest(f.Request().Append(nil))
		if err != nil {
			t.Fatal(err)
		}
		b.store.Seen(asked.Have)
		if !b.store.Leads() {
			return out + "does not lead\n"
		}
		if !b.store.News(asked) {
			return out + "no news\n"
		}
		u, err := ParseUpdate(b.store.Since(asked).Append(nil))
		if err != nil {
			t.Fatal(err)
		}
		changed, removed, err := f.Step(asked, u)
		if err != nil {
			return out + "error: " + err.Error() + "\n"
		}
		for _, g := range changed {
			out += "changed " + describe(g)
		}
		for _, id := range removed {
			out += fmt.Sprintf("removed %d\n", id)
		}
		if more = u.More; !more {
			f.Done()
		}
	}
	b.clients.Applied(name, f.Version())
	return out + "at " + f.Version().String() + "\n"
}
