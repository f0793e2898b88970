package nbd

import (
	"log/slog"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// TestPressureRules: a client is dropped when the same send, or the same data of a write, has been under way at two looks.
func TestPressureRules(t *testing.T) {
	nothing := func(*motion) {}
	for name, tc := range map[string]struct {
		before, between func(*motion)
		idle            bool
	}{
		"at rest":            {nothing, nothing, false},
		"under way only now": {nothing, (*motion).begin, false},
		"no step":            {(*motion).begin, nothing, true},
		"a step":             {(*motion).begin, (*motion).step, false},
		"ended":              {(*motion).begin, (*motion).end, false},
		"the next one":       {(*motion).begin, func(m *motion) { m.end(); m.begin() }, false},
	} {
		for side, of := range map[string]func(*session) *motion{
			"replies": func(s *session) *motion { return &s.out.moved },
			"payload": func(s *session) *motion { return &s.payload },
		} {
			s := new(session)
			tc.before(of(s))
			last := s.look()
			tc.between(of(s))
			if what := last.idle(s.look()); (what != "") != tc.idle {
				t.Errorf("%s, %s: %q", name, side, what)
			}
		}
	}
}

// TestLooksOfAStop: that requests of others wait for memory does not shorten the time in which something must move on a
// connection of a server that is stopped.
func TestLooksOfAStop(t *testing.T) {
	for name, moves := range map[string]bool{"moves": true, "rests": false} {
		synctest.Test(t, func(t *testing.T) {
			ours, theirs := net.Pipe()
			defer ours.Close()
			defer theirs.Close()
			r := &run{server: &Server{}, conns: map[*link]struct{}{}, log: slog.New(slog.DiscardHandler)}
			r.sessions = map[*session]progress{}
			r.memory = newMemory(1, r.press)
			s := &session{link: newLink(ours)}
			r.add(s.link)
			r.watch(s)
			r.hurry(time.Second)
			defer r.relax()
			time.Sleep(900 * time.Millisecond)
			if moves {
				s.out.moved.step()
			}
			r.press(true)
			r.press(false)
			time.Sleep(200 * time.Millisecond)
			s.link.mu.Lock()
			defer s.link.mu.Unlock()
			if s.link.ended == moves {
				t.Errorf("a connection that %s: closed %t", name, s.link.ended)
			}
		})
	}
}
