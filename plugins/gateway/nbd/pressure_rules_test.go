package nbd

import "testing"

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
