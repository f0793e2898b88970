package dataplane

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
	"github.com/ratchetos/ratchet/plugins/dataplane/api"
	"github.com/ratchetos/ratchet/plugins/dataplane/control"
	"github.com/ratchetos/ratchet/plugins/dataplane/control/controltest"
)

// hostState is the plugin's space in core's store.
type hostState struct{ *controltest.MemoryState }

func (hostState) Claim(context.Context, plugin.Want) (plugin.Handle, error) {
	return plugin.Handle{}, errors.New("nothing to claim here")
}
func (hostState) Release(context.Context, string) error { return nil }
func (hostState) Call(context.Context, string, string, []byte) ([]byte, error) {
	return nil, errors.New("nobody to call here")
}

// plugged is a plugin without NICs, which listens on loopback as core makes it.
type plugged struct {
	t      *testing.T
	f      *Feature
	state  hostState
	socket *net.TCPListener
	events chan plugin.Event
}

func newPlugged(t *testing.T) *plugged {
	t.Helper()
	l, p, err := controltest.Loopback("")
	if err != nil {
		t.Fatal(err)
	}
	p.Close() // the plugin opens that one itself
	t.Cleanup(func() { l.Close() })
	return &plugged{t: t, state: hostState{controltest.NewMemoryState()}, socket: l.(*net.TCPListener), events: make(chan plugin.Event, 64)}
}

// start runs a process of the plugin.
func (p *plugged) start(section string) {
	p.t.Helper()
	p.f = New()
	if err := p.f.Configure(p.t.Context(), plugin.Section{JSON: []byte(section)}); err != nil {
		p.t.Fatal(err)
	}
	file, err := p.socket.File()
	if err != nil {
		p.t.Fatal(err)
	}
	err = p.f.Start(p.t.Context(), &plugin.Session{
		Handles: map[string]plugin.Handle{wantAgents: {Name: wantAgents, Kind: pluginpb.Kind_LISTENER, File: file}},
		Host:    p.state, Log: slog.New(slog.DiscardHandler),
		Report: func(e plugin.Event) {
			select {
			case p.events <- e:
			default:
			}
		},
	})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(p.stop)
}

func (p *plugged) stop() {
	if p.f == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := p.f.Stop(ctx); err != nil {
		p.t.Error(err)
	}
	p.f = nil
}

func invoke[T any](p *plugged, method string, request any) (reply T, err error) {
	p.t.Helper()
	b, err := json.Marshal(request)
	if err != nil {
		p.t.Fatal(err)
	}
	out, err := p.f.Invoke(p.t.Context(), method, b)
	if err != nil {
		return reply, err
	}
	return reply, json.Unmarshal(out, &reply)
}

// A host is enrolled, joins, joins again after the plugin was restarted with what it has, and is revoked.
func TestAgents(t *testing.T) {
	p := newPlugged(t)
	const section = `{"agents":{"listen":":7400"}}`
	p.start(section)
	enrolled, err := invoke[api.EnrollReply](p, api.MethodEnroll, api.AgentRequest{Name: "web-1"})
	if err != nil {
		t.Fatal(err)
	}
	id, err := control.ParseIdentity([]byte(enrolled.Identity))
	if err != nil {
		t.Fatal(err)
	}
	joins := make(chan struct{}, 8)
	c := control.NewClient(control.ClientOptions{Address: p.socket.Addr().String(), Identity: id})
	c.OnJoin(func() { joins <- struct{}{} })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	defer func() { cancel(); <-done }()
	joined := func() {
		t.Helper()
		select {
		case <-joins:
		case <-time.After(20 * time.Second):
			t.Fatal("the host does not join")
		}
	}
	joined()
	p.stop()
	p.start(section)
	joined()
	reply, err := invoke[api.AgentsReply](p, api.MethodAgents, struct{}{})
	if err != nil || len(reply.Agents) != 1 || reply.Agents[0].Name != "web-1" || !reply.Agents[0].Joined {
		t.Errorf("agents: %+v, %v", reply, err)
	}
	if _, err := invoke[struct{}](p, api.MethodRevoke, api.AgentRequest{Name: "web-1"}); err != nil {
		t.Error(err)
	}
	if reply, err := invoke[api.AgentsReply](p, api.MethodAgents, struct{}{}); err != nil || len(reply.Agents) != 0 {
		t.Errorf("agents after the revocation: %+v, %v", reply, err)
	}
	if _, err := invoke[struct{}](p, api.MethodRevoke, api.AgentRequest{Name: "web-1"}); err == nil || !strings.Contains(err.Error(), "agent list") {
		t.Errorf("revoked twice: %v", err)
	}
	if err := p.f.Configure(t.Context(), plugin.Section{JSON: []byte(`{}`)}); !errors.Is(err, plugin.ErrNeedsRestart) {
		t.Errorf("agents taken away: %v, want ErrNeedsRestart", err)
	}
}

func TestMethodsOfWhatIsNotConfigured(t *testing.T) {
	p := newPlugged(t)
	p.start(`{}`)
	if _, err := p.f.Invoke(t.Context(), api.MethodAgents, nil); err == nil || !strings.Contains(err.Error(), "agents.listen") {
		t.Errorf("agents: %v", err)
	}
	if _, err := p.f.Invoke(t.Context(), "no.such", nil); err == nil || !strings.Contains(err.Error(), "no.such") {
		t.Errorf("unknown method: %v", err)
	}
	for _, m := range modules() {
		for _, method := range m.methods() {
			if _, err := p.f.Invoke(t.Context(), method.GetName(), nil); err == nil || !strings.Contains(err.Error(), "plugins.dataplane."+m.name) {
				t.Errorf("%s: %v", method.GetName(), err)
			}
		}
	}
}
