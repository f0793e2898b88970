package dataplane

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
	"github.com/ratchetos/ratchet/plugins/dataplane/api"
	"github.com/ratchetos/ratchet/plugins/dataplane/control"
)

// wantAgents is the name of the Want for the listening socket, which core keeps over restarts: hosts that join again
// wait in its backlog instead of being refused.
const wantAgents = "agents"

// agents is the box's end of the channel to hosts.
type agents struct {
	authority *control.Authority
	server    *control.Server
	cancel    context.CancelFunc
	ended     chan error
}

// openAgents makes the server; handlers are set on it before serve.
func openAgents(ctx context.Context, state control.State, socket *os.File, log *slog.Logger) (*agents, error) {
	authority, err := control.OpenAuthority(ctx, state)
	if err != nil {
		return nil, err
	}
	l, err := net.FileListener(socket)
	if err != nil {
		return nil, fmt.Errorf("take over agents' socket: %w", err)
	}
	p, err := listenPacket(ctx, l.Addr().String())
	if err != nil {
		l.Close()
		return nil, err
	}
	server, err := control.NewServer(control.ServerOptions{Authority: authority, Listener: l, Packets: p, Log: log})
	if err != nil {
		return nil, errors.Join(err, l.Close(), p.Close())
	}
	return &agents{authority: authority, server: server}, nil
}

// listenPacket opens the datagram socket. Its address may be on a link that is not up yet.
func listenPacket(ctx context.Context, address string) (*net.UDPConn, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		if cerr := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_FREEBIND, 1) }); cerr != nil {
			return cerr
		}
		return err
	}}
	p, err := lc.ListenPacket(ctx, "udp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for agents' datagrams: %w", err)
	}
	u, ok := p.(*net.UDPConn)
	if !ok {
		p.Close()
		return nil, fmt.Errorf("listen for agents' datagrams: got a %T", p)
	}
	return u, nil
}

// serve begins to serve; all parts have set their handlers.
func (a *agents) serve() {
	ctx, cancel := context.WithCancel(context.Background())
	a.cancel, a.ended = cancel, make(chan error, 1)
	go func() { a.ended <- a.server.Serve(ctx) }()
}

func (a *agents) stop(ctx context.Context) error {
	a.cancel()
	select {
	case err := <-a.ended:
		return err
	case <-ctx.Done():
		return fmt.Errorf("stop serving hosts: %w", ctx.Err())
	}
}

func agentMethods() []*pluginpb.Method {
	return []*pluginpb.Method{
		{Name: api.MethodAgents, Summary: "enrolled hosts and whether they are heard", ReadOnly: true},
		{Name: api.MethodEnroll, Summary: "enrol a host, or enrol it again, and return its identity file"},
		{Name: api.MethodRevoke, Summary: "make a host's identity file void and end its session"},
	}
}

// invoke answers the agents' methods; a is nil when no agents are configured.
func (a *agents) invoke(ctx context.Context, method string, request []byte) ([]byte, error) {
	if a == nil {
		return nil, errors.New("no agents are configured: set plugins.dataplane.agents.listen")
	}
	var req api.AgentRequest
	if method != api.MethodAgents {
		if err := json.Unmarshal(request, &req); err != nil {
			return nil, fmt.Errorf("decode request: %w", err)
		}
	}
	switch method {
	case api.MethodEnroll:
		pem, err := a.authority.Enroll(ctx, req.Name)
		if err != nil {
			return nil, err
		}
		return json.Marshal(api.EnrollReply{Identity: string(pem)})
	case api.MethodRevoke:
		if err := a.authority.Revoke(ctx, req.Name); err != nil {
			return nil, err
		}
		return []byte("{}"), nil
	}
	return json.Marshal(a.list())
}

func (a *agents) list() api.AgentsReply {
	var reply api.AgentsReply
	for _, h := range a.server.Hosts() {
		out := api.Agent{
			Name: h.Name, Joined: h.Joined, SilentMS: -1, Sessions: h.Sessions, Calls: h.Calls, Datagrams: h.Datagrams,
			Replayed: h.Replayed, Forged: h.Forged,
		}
		if h.Silent >= 0 {
			out.SilentMS = h.Silent.Milliseconds()
		}
		if h.Address.IsValid() {
			out.Address = h.Address.String()
		}
		reply.Agents = append(reply.Agents, out)
	}
	return reply
}

// show adds the table of hosts to an event.
func (a *agents) show(e *pluginpb.Event) {
	if a == nil {
		return
	}
	t := &pluginpb.Table{Name: "agents", Columns: api.AgentColumns()}
	joined, replayed, forged := 0.0, 0.0, 0.0
	hosts := a.list().Agents
	for i, h := range hosts {
		if i < maxShown {
			t.Rows = append(t.Rows, &pluginpb.Row{Cells: h.Cells()})
		}
		if h.Joined {
			joined++
		}
		replayed, forged = replayed+float64(h.Replayed), forged+float64(h.Forged)
	}
	e.Tables = append(e.Tables, t)
	e.Gauges = append(e.Gauges,
		&pluginpb.Gauge{Name: "agents_enrolled", Help: "hosts that are enrolled", Value: float64(len(hosts))},
		&pluginpb.Gauge{Name: "agents_joined", Help: "hosts with a session", Value: joined},
		&pluginpb.Gauge{Name: "agents_replayed_total", Help: "datagrams refused because their number had been seen", Value: replayed, Counter: true},
		&pluginpb.Gauge{Name: "agents_forged_total", Help: "datagrams refused because their key does not open them", Value: forged, Counter: true},
	)
}

// maxShown bounds the rows of a table that is sent every two seconds; the methods give all of them.
const maxShown = 100

// prefixed is the part of the plugin's state store that one part has.
type prefixed struct {
	state  control.State
	prefix string
}

var _ control.State = prefixed{}

func (p prefixed) Get(ctx context.Context, key string) ([]byte, error) {
	return p.state.Get(ctx, p.prefix+key)
}

func (p prefixed) Put(ctx context.Context, key string, value []byte) error {
	return p.state.Put(ctx, p.prefix+key, value)
}

func (p prefixed) Delete(ctx context.Context, key string) error {
	return p.state.Delete(ctx, p.prefix+key)
}

func (p prefixed) List(ctx context.Context, prefix string) ([]string, error) {
	keys, err := p.state.List(ctx, p.prefix+prefix)
	for i, k := range keys {
		keys[i] = strings.TrimPrefix(k, p.prefix)
	}
	return keys, err
}
