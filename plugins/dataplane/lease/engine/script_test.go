package engine

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
)

// script plays testdata: every message is delivered when the script says so, or never.
type script struct {
	ttl      time.Duration
	books    []*Book
	shares   *Shares
	sets     []*Set
	messages []letter
	mutant   mutant
	out      strings.Builder
}

// letter is a message on its way.
type letter struct {
	from, to string
	message  any
}

var mutants = map[string]mutant{"": mutantNone, "receipt": mutantReceipt, "overlap": mutantOverlap, "forget": mutantForget, "any-reply": mutantAnyReply}

// TestScripts plays testdata/*.txt. Rewrite them with -rewrite.
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata/scripts", func(t *testing.T, path string) {
		s := &script{}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			s.out.Reset()
			var now time.Duration
			if d.HasArg("t") {
				var text string
				d.ScanArgs(t, "t", &text)
				var err error
				if now, err = time.ParseDuration(text); err != nil {
					d.Fatalf(t, "%v", err)
				}
			}
			switch d.Cmd {
			case "init":
				s.init(t, d)
			case "producer":
				offers, _ := s.shares.Step(now)
				for _, o := range offers {
					s.post("p", fmt.Sprintf("a%d", o.Agent), o.Hold)
				}
			case "consumer":
				var i int
				d.ScanArgs(t, "n", &i)
				requests, _ := s.sets[i].Step(now)
				for _, r := range requests {
					s.post(fmt.Sprintf("c%d", i), fmt.Sprintf("a%d", r.Agent), r.Want)
				}
			case "deliver":
				var m int
				d.ScanArgs(t, "m", &m)
				if m < 1 || m > len(s.messages) {
					d.Fatalf(t, "there is no message %d", m)
				}
				s.deliver(now, s.messages[m-1])
			case "settle": // everything between the producer and these agents is delivered at once
				var agents string
				d.ScanArgs(t, "agents", &agents)
				s.settle(now, agents)
			case "restart":
				var i int
				d.ScanArgs(t, "agent", &i)
				s.restart(i, now)
			case "state":
				s.state(now)
			default:
				d.Fatalf(t, "unknown command %s", d.Cmd)
			}
			if s.out.Len() == 0 {
				return "ok\n"
			}
			return s.out.String()
		})
	})
}

func (s *script) init(t *testing.T, d *datadriven.TestData) {
	*s = script{ttl: time.Second}
	agents, consumers, quota, name := 1, 1, 1, ""
	for key, v := range map[string]any{"agents": &agents, "consumers": &consumers, "quota": &quota, "mutant": &name} {
		if d.HasArg(key) {
			d.ScanArgs(t, key, v)
		}
	}
	s.mutant = mutants[name]
	for i := range agents {
		s.books = append(s.books, nil)
		s.open(i, 0)
	}
	s.shares = NewShares(SharesOptions{
		Run: 1, Host: "h", Service: "s", Producer: "p", Quota: uint32(quota), Agents: agents, Target: Target{Host: netip.MustParseAddr("10.0.0.1")},
	})
	s.shares.mutant = s.mutant
	for i := range consumers {
		set := NewSet(SetOptions{Run: 1, Host: fmt.Sprintf("c%d", i), Service: "s", Leases: 1, Agents: agents, Jitter: func() float64 { return 0 }})
		set.mutant = s.mutant
		s.sets = append(s.sets, set)
	}
}

func (s *script) open(i int, recovering time.Duration) {
	o := BookOptions{Run: uint64(len(s.messages) + i + 1), Key: [32]byte{byte(i)}, Recovering: recovering}
	if s.books[i] != nil {
		o.Epochs = s.books[i].epochs
	}
	s.books[i] = NewBook(o)
	s.books[i].Configure([]Service{{Name: "s", VNI: 7, TTL: s.ttl}})
}

func (s *script) restart(i int, now time.Duration) {
	recovering := now + guard(s.ttl)
	if s.mutant == mutantForget {
		recovering = 0
	}
	s.open(i, recovering)
}

func (s *script) post(from, to string, message any) {
	s.messages = append(s.messages, letter{from, to, message})
	fmt.Fprintf(&s.out, "%d: %s -> %s %s\n", len(s.messages), from, to, describe(message))
}

func (s *script) deliver(now time.Duration, l letter) {
	var agent int
	switch l.to[0] {
	case 'a':
		fmt.Sscanf(l.to, "a%d", &agent)
		b := s.books[agent]
		switch m := l.message.(type) {
		case Want:
			if g, ok := b.Want(now, l.from, m); ok {
				s.post(l.to, l.from, g)
			}
		case Hold:
			a, nudge, ok := b.Hold(now, "h", m)
			for k, c := range b.Unsaved() {
				b.Saved(k, c)
			}
			if ok {
				s.post(l.to, l.from, a)
			}
			if len(nudge) > 0 {
				fmt.Fprintf(&s.out, "nudge %s\n", strings.Join(nudge, " "))
			}
		}
	default:
		fmt.Sscanf(l.from, "a%d", &agent)
		switch m := l.message.(type) {
		case Ack:
			s.shares.Acked(now, agent, m)
		case Grant:
			var i int
			fmt.Sscanf(l.to, "c%d", &i)
			s.sets[i].Granted(now, agent, m)
		}
	}
}

func (s *script) settle(now time.Duration, agents string) {
	for range 8 {
		before := len(s.messages)
		offers, _ := s.shares.Step(now)
		for _, o := range offers {
			if to := fmt.Sprintf("a%d", o.Agent); strings.Contains(agents, to) {
				s.post("p", to, o.Hold)
			}
		}
		for i := before; i < len(s.messages); i++ {
			s.deliver(now, s.messages[i])
		}
		for i := range s.shares.agents {
			if s.shares.agents[i].ack.Status == Wait {
				s.shares.agents[i].next = now
			}
		}
	}
	s.messages = nil // those that follow are counted from 1
	s.out.Reset()
	s.state(now)
}

// state shows who may use what, and what everyone knows.
func (s *script) state(now time.Duration) {
	fmt.Fprintf(&s.out, "producer: %s epoch %d", s.shares.Phase(), s.shares.Epoch())
	for i := range s.shares.agents {
		offered, bound := s.shares.Share(i)
		fmt.Fprintf(&s.out, ", a%d offered %d bound %d", i, offered, bound)
	}
	s.out.WriteByte('\n')
	for i, b := range s.books {
		for _, v := range b.Services(now) {
			fmt.Fprintf(&s.out, "a%d: leased %d of %d", i, v.Leased, v.Share)
			if v.Recovering {
				s.out.WriteString(", recovering")
			}
			s.out.WriteByte('\n')
		}
	}
	for i, set := range s.sets {
		for _, u := range set.Leases() {
			if u.Expires > now {
				fmt.Fprintf(&s.out, "c%d: uses %s of a%d for %v\n", i, u.Producer, u.Agent, u.Expires-now)
			}
		}
	}
}

func describe(message any) string {
	switch m := message.(type) {
	case Want:
		var held []string
		for _, h := range m.Held {
			held = append(held, h.Producer)
		}
		return fmt.Sprintf("want seq %d leases %d held %v", m.Seq, m.Leases, held)
	case Grant:
		var leases []string
		for _, l := range m.Leases {
			leases = append(leases, fmt.Sprintf("%s for %v", l.Producer, l.TTL))
		}
		return fmt.Sprintf("grant seq %d %s %v", m.Seq, m.Status, leases)
	case Hold:
		return fmt.Sprintf("hold seq %d epoch %d share %d %s", m.Seq, m.Epoch, m.Share, m.State)
	case Ack:
		return fmt.Sprintf("ack seq %d %s share %d leased %d highest %d", m.Seq, m.Status, m.Share, m.Leased, m.Highest)
	}
	return fmt.Sprint(message)
}
