package migration

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/ratchetos/ratchet/core/plugin"
)

// gateway answers calls from a list and remembers what was asked. The last answer stands.
type gateway struct {
	answers []any // an error or a reply
	asked   []string
}

func (g *gateway) Call(_ context.Context, name, method string, request []byte) ([]byte, error) {
	g.asked = append(g.asked, fmt.Sprintf("%s %s %s", name, method, request))
	a := g.answers[0]
	if len(g.answers) > 1 {
		g.answers = g.answers[1:]
	}
	if err, failed := a.(error); failed {
		return nil, err
	}
	return []byte(a.(string)), nil
}

func TestHandover(t *testing.T) {
	const done = `{"epoch": 7, "writer": "rack2"}`
	away := fmt.Errorf("call: %w", plugin.ErrUnavailable)
	for name, tc := range map[string]struct {
		answers []any
		calls   int
		want    string // in the error
	}{
		"done":                    {[]any{done}, 1, ""},
		"the gateway restarts":    {[]any{away, away, done}, 3, ""},
		"refused":                 {[]any{errors.New("no token")}, 1, "no token"},
		"somebody else writes":    {[]any{`{"epoch": 7, "writer": "rack3"}`}, 1, `"rack3" writes`},
		"nothing was kept":        {[]any{`{"writer": "rack2"}`}, 1, "under epoch 0"},
		"an answer of a stranger": {[]any{"volumes"}, 1, "read the gateway's answer"},
	} {
		t.Run(name, func(t *testing.T) {
			g := &gateway{answers: tc.answers}
			epoch, err := volumes{g, true}.Handover(t.Context(), "vm-17", "rack1", "rack2")
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) || err == nil && epoch != 7 {
				t.Errorf("epoch %d, %v; want an error with %q", epoch, err, tc.want)
			}
			if len(g.asked) != tc.calls || g.asked[0] != `gateway volumes.handover {"name":"vm-17","from":"rack1","to":"rack2"}` {
				t.Errorf("asked %q, want %d calls", g.asked, tc.calls)
			}
		})
	}
	if _, err := (volumes{}).Handover(t.Context(), "vm-17", "rack1", "rack2"); !errors.Is(err, errNoGateway) {
		t.Errorf("without the right: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (volumes{&gateway{answers: []any{away}}, true}).Handover(ctx, "vm-17", "rack1", "rack2"); !errors.Is(err, context.Canceled) {
		t.Errorf("a gateway that stays away, and nobody waits any more: %v", err)
	}
}
