package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"

	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
	"github.com/ratchetos/ratchet/core/plugin/wire"
	"github.com/ratchetos/ratchet/core/sandbox"
)

const (
	// handshakeTimeout bounds the way from exec to go-plugin's handshake; wide, because an
	// emulated CPU is fifty times slower.
	handshakeTimeout = 30 * time.Second
	// sendTimeout bounds the sending of one descriptor.
	sendTimeout = 2 * time.Second
	// exitGrace is what a process has to exit after Stop, and again after SIGTERM.
	exitGrace = time.Second
)

// process is one running plugin process.
type process struct {
	name    string
	client  *goplugin.Client
	rpc     pluginpb.PluginClient
	control *wire.Control
	host    *grpc.Server
	cgroup  *sandbox.Cgroup // nil without cgroup v2

	mu     sync.Mutex
	runner *processRunner // nil until go-plugin asked for it
	dead   bool           // killed before it was started
}

// spawn starts a process of the unit's plugin and shakes hands with it. The process lives
// until it is killed or exits; ctx bounds only the start.
func (h *Host) spawn(ctx context.Context, u *unit, grant Grant) (*process, error) {
	p := &process{name: u.name}
	ok := false
	defer func() {
		if !ok {
			p.kill()
			p.close()
		}
	}()

	boot := wire.Bootstrap{Sandbox: !h.opts.NoSandbox, LogLevel: int(h.opts.PluginLogLevel)}
	if err := h.ca.bootstrap(u.name, &boot); err != nil {
		return nil, err
	}
	bootFile, err := boot.File()
	if err != nil {
		return nil, err
	}
	defer bootFile.Close()
	var theirs *os.File
	if p.control, theirs, err = wire.ControlPair(); err != nil {
		return nil, err
	}
	defer theirs.Close()
	if err := p.serveHost(h, u); err != nil {
		return nil, err
	}
	cfg, err := h.runnerConfig(u, grant)
	if err != nil {
		return nil, err
	}
	p.cgroup = cfg.cgroup
	cfg.files = []*os.File{theirs, bootFile} // wire.ControlFD, wire.BootstrapFD
	p.client = goplugin.NewClient(&goplugin.ClientConfig{
		HandshakeConfig:  wire.Handshake(),
		Plugins:          goplugin.PluginSet{wire.ServiceName: clientPlugin{}},
		AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC},
		TLSConfig:        h.ca.clientTLS(u.name),
		Logger:           wire.HCLog(goPluginLog(u.log)),
		StartTimeout:     handshakeTimeout,
		SkipHostEnv:      true,
		UnixSocketConfig: &goplugin.UnixSocketConfig{TempDir: h.opts.RunDir},
		GRPCDialOptions:  wire.DialOptions(),
		RunnerFunc: func(_ hclog.Logger, spec *exec.Cmd, dir string) (runner.Runner, error) {
			r, err := newProcessRunner(cfg, spec, dir)
			if err != nil {
				return nil, err
			}
			return r, p.adopt(r)
		},
	})
	stop := context.AfterFunc(ctx, p.kill) // go-plugin's start takes no context
	defer stop()
	proto, err := p.client.Client()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", u.name, errors.Join(err, ctx.Err()))
	}
	raw, err := proto.Dispense(wire.ServiceName)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", u.name, err)
	}
	rpc, isClient := raw.(pluginpb.PluginClient)
	if !isClient {
		return nil, fmt.Errorf("start %s: go-plugin dispensed a %T", u.name, raw)
	}
	p.rpc = rpc
	ok = true
	return p, nil
}

// goPluginLog is silent unless somebody debugs: what matters of go-plugin's errors comes back
// as errors, and the end of a process is logged by its unit, with what follows from it.
func goPluginLog(log *slog.Logger) *slog.Logger {
	if log.Enabled(context.Background(), slog.LevelDebug) {
		return log
	}
	return slog.New(slog.DiscardHandler)
}

// runnerConfig says how a process of the unit is started.
func (h *Host) runnerConfig(u *unit, grant Grant) (runnerConfig, error) {
	caps, err := grant.allowed(u.program)
	if err != nil {
		return runnerConfig{}, err
	}
	cfg := runnerConfig{
		path: u.program.Path, name: u.name, uid: u.uid,
		launch: sandbox.Launch{UID: u.uid, Capabilities: caps, Companion: u.program.trusted()},
		env:    []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"},
		onLog:  u.ring.copy,
	}
	if cfg.path == "" {
		cfg.path = "/proc/self/exe"
	}
	if h.notify != nil {
		cfg.env = append(cfg.env, "NOTIFY_SOCKET="+h.notify.Path(),
			"WATCHDOG_USEC="+strconv.FormatInt(h.policy.Watchdog.Microseconds(), 10))
	}
	if grant.Memory > 0 {
		// Let the collector know before the kernel does.
		cfg.env = append(cfg.env, "GOMEMLIMIT="+strconv.FormatUint(grant.Memory/10*9, 10))
	}
	if u.program.Descriptor.GetOwnNetns() && h.privileged {
		if cfg.netns, err = u.namespace(); err != nil {
			return runnerConfig{}, err
		}
	}
	if h.cgroups != nil {
		parent, err := h.cgroups.Plugin(u.name, sandbox.Limits{Memory: grant.Memory, PIDs: grant.PIDs})
		if err != nil {
			return runnerConfig{}, err
		}
		if cfg.cgroup, err = parent.Process(h.serial.Add(1)); err != nil {
			return runnerConfig{}, err
		}
	}
	return cfg, nil
}

// adopt takes go-plugin's runner, unless the process was killed before it came to be.
func (p *process) adopt(r *processRunner) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dead {
		return errors.New("stopped before it was started")
	}
	p.runner = r
	return nil
}

func (p *process) started() *processRunner {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.runner
}

// serveHost gives the process its connection to the Host service: one end of a socketpair
// that waits in the control socket until the process reads it.
func (p *process) serveHost(h *Host, u *unit) error {
	mine, theirs, err := wire.Socketpair(unix.SOCK_STREAM)
	if err != nil {
		return err
	}
	defer mine.Close()
	defer theirs.Close()
	conn, err := net.FileConn(mine)
	if err != nil {
		return fmt.Errorf("serve host: %w", err)
	}
	if err := p.control.Send(wire.Message{Kind: wire.KindHost}, theirs, time.Now().Add(sendTimeout)); err != nil {
		conn.Close()
		return err
	}
	p.host = grpc.NewServer(append(wire.ServerOptions(), grpc.MaxRecvMsgSize(maxHostMessage))...)
	pluginpb.RegisterHostServer(p.host, &service{host: h, unit: u, process: p})
	go func() {
		_ = p.host.Serve(&oneConn{conn: conn, done: make(chan struct{})}) // ends with Stop
	}()
	return nil
}

// exited is closed at the end of the process.
func (p *process) exited() <-chan struct{} { return p.started().exited }

// pid of the process.
func (p *process) pid() int { return p.started().pid }

// why says how the process ended.
func (p *process) why() string {
	r := p.started()
	select {
	case <-r.exited:
		if r.err != nil {
			return r.err.Error()
		}
		return "exited"
	default:
		return "running"
	}
}

// kill ends the process at once.
func (p *process) kill() {
	p.mu.Lock()
	p.dead = true
	r := p.runner
	p.mu.Unlock()
	if r != nil {
		_ = r.Kill(context.Background())
	}
}

// stop ends the process: Stop, hang up, SIGTERM, SIGKILL. The error says that it did not end by itself with all
// its work done.
func (p *process) stop(ctx context.Context) error {
	deadline := int64(0)
	if d, ok := ctx.Deadline(); ok {
		deadline = time.Until(d).Milliseconds()
	}
	_, err := p.rpc.Stop(ctx, &pluginpb.StopRequest{DeadlineMs: deadline})
	p.control.Close()
	if p.gone(ctx) {
		return err
	}
	_ = p.started().cmd.Process.Signal(syscall.SIGTERM)
	if p.gone(ctx) {
		return err
	}
	p.kill()
	return errors.Join(err, errors.New("killed"))
}

func (p *process) drain(ctx context.Context, limit time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	stream, err := p.rpc.Drain(ctx, &pluginpb.DrainRequest{DeadlineMs: limit.Milliseconds()})
	for err == nil {
		_, err = stream.Recv()
	}
}

func (p *process) gone(ctx context.Context) bool {
	t := time.NewTimer(exitGrace)
	defer t.Stop()
	select {
	case <-p.exited():
		return true
	case <-ctx.Done():
		return false
	case <-t.C:
		return false
	}
}

// close tidies up behind a process that has ended or was killed.
func (p *process) close() {
	if p.host != nil {
		p.host.Stop()
	}
	if p.control != nil {
		p.control.Close()
	}
	if p.client != nil {
		p.client.Kill() // removes the socket directory; the process is dead already
	}
	if p.cgroup != nil {
		ctx, cancel := context.WithTimeout(context.Background(), exitGrace)
		defer cancel()
		_ = p.cgroup.Remove(ctx) // an empty directory that stays harms nobody
	}
}

// clientPlugin is go-plugin's view of core's side.
type clientPlugin struct {
	goplugin.NetRPCUnsupportedPlugin
}

var _ goplugin.GRPCPlugin = clientPlugin{}

func (clientPlugin) GRPCServer(*goplugin.GRPCBroker, *grpc.Server) error {
	return errors.New("core does not serve the plugin's contract")
}

func (clientPlugin) GRPCClient(_ context.Context, _ *goplugin.GRPCBroker, c *grpc.ClientConn) (any, error) {
	return pluginpb.NewPluginClient(c), nil
}

// oneConn is a listener with one connection.
type oneConn struct {
	mu   sync.Mutex
	conn net.Conn
	done chan struct{}
}

func (l *oneConn) Accept() (net.Conn, error) {
	l.mu.Lock()
	c := l.conn
	l.conn = nil
	l.mu.Unlock()
	if c != nil {
		return c, nil
	}
	<-l.done
	return nil, io.EOF
}

func (l *oneConn) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.done:
	default:
		close(l.done)
	}
	if l.conn != nil {
		return l.conn.Close()
	}
	return nil
}

func (l *oneConn) Addr() net.Addr { return &net.UnixAddr{Name: "host", Net: "unix"} }
