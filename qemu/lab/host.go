package lab

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/qmp"
	"github.com/ratchetos/ratchet/plugins/migration/vmhost"
	"github.com/ratchetos/ratchet/plugins/migration/vmhost/args"
	"github.com/ratchetos/ratchet/plugins/migration/vmhost/client"
	"github.com/ratchetos/ratchet/plugins/migration/vmhost/pki"
)

// HostOptions of a lab's host; the zero value works.
type HostOptions struct {
	// Listen is where it serves managers, a free port of 127.0.0.1 when empty.
	Listen string
	// Identity is the file that an authority other than the lab's own has printed for the host.
	Identity []byte
	// Tokens are the host's secrets at a gateway, by volume.
	Tokens map[string]string
	// Log gets what the agent says; nil is silence.
	Log *slog.Logger
	// Transcript gets every line of every monitor.
	Transcript func(vm string, sent bool, line []byte)
}

// Host is a hypervisor host: vmhost's own code in this process, with QEMUs that end with it.
type Host struct {
	Name string
	// Address is where it serves managers, "127.0.0.1:PORT"; it stays over restarts.
	Address string
	// Dir is what its configuration calls dir, Disks where local disks may be.
	Dir, Disks string

	lab    *Lab
	config vmhost.Config
	o      HostOptions

	mu     sync.Mutex
	agent  *vmhost.Host
	stop   context.CancelFunc
	served chan error
}

// Host starts a host. Its name is a DNS label.
func (l *Lab) Host(ctx context.Context, name string, o HostOptions) (*Host, error) {
	h := &Host{Name: name, Dir: filepath.Join(l.Dir, name), lab: l, o: o}
	h.Disks = filepath.Join(h.Dir, "disks")
	if err := os.MkdirAll(h.Disks, 0o755); err != nil {
		return nil, err
	}
	if o.Identity == nil {
		a, err := l.Authority(ctx)
		if err != nil {
			return nil, err
		}
		if o.Identity, err = a.Enroll(ctx, name); err != nil {
			return nil, err
		}
	}
	identity := filepath.Join(h.Dir, "identity.pem")
	if err := os.WriteFile(identity, o.Identity, 0o600); err != nil {
		return nil, err
	}
	h.config = vmhost.Config{
		Listen: cmp.Or(o.Listen, "127.0.0.1:0"), Identity: identity, Dir: h.Dir, QEMU: "/usr/bin/qemu-system-x86_64", Accels: []string{"tcg"},
		Move:     vmhost.MoveConfig{Address: "127.0.0.1"},
		Networks: []vmhost.NetworkConfig{{Name: Network, User: true}},
		Disks:    []string{h.Disks}, Images: []string{filepath.Dir(l.Image.Kernel), filepath.Dir(l.Image.Initrd)},
		Tokens: o.Tokens, Consoles: true,
	}
	if err := h.Restart(); err != nil {
		return nil, err
	}
	l.OnClose(func() { _ = h.Stop() })
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hosts = append(l.hosts, h)
	return h, nil
}

// Authority is the lab's own for hosts: the manager's part of package pki.
func (l *Lab) Authority(ctx context.Context) (*pki.Authority, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.authority == nil {
		a, err := pki.Open(ctx, state{})
		if err != nil {
			return nil, err
		}
		l.authority = a
	}
	return l.authority, nil
}

// ClientTLS is a manager's side of connections to a host that the lab's own authority has enrolled.
func (h *Host) ClientTLS(ctx context.Context) (*tls.Config, error) {
	a, err := h.lab.Authority(ctx)
	if err != nil {
		return nil, err
	}
	return a.ClientTLS(h.Name)
}

// Port connects to the host as a manager of the lab does. Epoch 0 is the first manager's. Streams are TLS; plain is for
// what measures that. The lab closes it.
func (h *Host) Port(ctx context.Context, epoch uint64, plain bool) (hypervisor.Port, error) {
	config, err := h.ClientTLS(ctx)
	if err != nil {
		return nil, err
	}
	p, err := qmp.DialVMHost(ctx, qmp.VMHost{
		Name: h.Name, Address: h.Address, TLS: config, Epoch: max(epoch, 1), Plain: plain,
		Peers: func(ctx context.Context, host string) (hypervisor.Port, error) {
			peer := h.lab.host(host)
			if peer == nil {
				return nil, fmt.Errorf("the lab has no host %q", host)
			}
			return peer.Port(ctx, epoch, plain)
		},
	})
	if err != nil {
		return nil, err
	}
	h.lab.OnClose(func() { _ = p.Close() })
	return p, nil
}

// Restart starts the host's agent, ending the one that runs. As QEMUs are tied to the agent here, they end with it: the
// host has crashed.
func (h *Host) Restart() error {
	if err := h.Stop(); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	listen := h.config.Listen
	if h.Address != "" {
		listen = h.Address
	}
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return fmt.Errorf("start host %s: %w", h.Name, err)
	}
	h.Address = listener.Addr().String()
	h.agent, err = vmhost.New(h.config, vmhost.Options{Log: h.o.Log, Tied: true, Transcript: h.transcript})
	if err != nil {
		return errors.Join(fmt.Errorf("start host %s: %w", h.Name, err), listener.Close())
	}
	var ctx context.Context
	ctx, h.stop = context.WithCancel(context.Background())
	h.served = make(chan error, 1)
	agent, served := h.agent, h.served
	go func() { served <- agent.Serve(ctx, listener) }()
	return nil
}

// Stop ends the host's agent and all its QEMUs.
func (h *Host) Stop() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.agent == nil {
		return nil
	}
	h.stop()
	err := errors.Join(<-h.served, h.agent.Close())
	h.agent = nil
	now := time.Now()
	for _, g := range h.lab.all() {
		g.Runners.Ended(h.process(g.Shape.VM), now)
	}
	return err
}

// process is what Runners call a VM's QEMU on this host.
func (h *Host) process(vm string) string { return h.Name + "/" + vm }

// transcript sees every line of every monitor, so no event is missed.
func (h *Host) transcript(vm string, sent bool, line []byte) {
	if h.o.Transcript != nil {
		h.o.Transcript(vm, sent, line)
	}
	var e struct {
		Event     string `json:"event"`
		Timestamp struct {
			Seconds      int64 `json:"seconds"`
			Microseconds int64 `json:"microseconds"`
		} `json:"timestamp"`
	}
	if sent || json.Unmarshal(line, &e) != nil || e.Event == "" {
		return
	}
	for _, g := range h.lab.all() {
		if g.Shape.VM == vm {
			g.Runners.Event(h.process(vm), e.Event, time.Unix(e.Timestamp.Seconds, e.Timestamp.Microseconds*1000))
		}
	}
}

// Client asks the host's agent as its operator does.
func (h *Host) Client() *client.Client { return client.Local(filepath.Join(h.Dir, "control.sock")) }

// Restore starts a guest here from its saved state and returns when it beats.
func (h *Host) Restore(ctx context.Context, g *Guest) error {
	path, err := State(ctx, h.lab.Image, g.Shape)
	if err != nil {
		return err
	}
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	h.mu.Lock()
	agent := h.agent
	h.mu.Unlock()
	if agent == nil {
		return fmt.Errorf("restore guest %s: host %s is stopped", g.Shape.VM, h.Name)
	}
	if err := agent.Start(ctx, g.Shape, vmhost.StartOptions{State: file}); err != nil {
		return err
	}
	c := h.Client()
	defer c.Close()
	// The state was saved of a guest that was stopped, and so it arrives.
	err = restored(ctx, func(command string, out any) error {
		r, err := c.Do(ctx, g.Shape.VM, command, nil)
		if err == nil && r.Error != nil {
			err = errors.New(r.Error.Desc)
		}
		if err == nil && out != nil {
			err = json.Unmarshal(r.Return, out)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("restore guest %s on %s: %w", g.Shape.VM, h.Name, err)
	}
	return g.meet(ctx, args.Socket(h.vm(g.Shape.VM), labChannel))
}

// restored waits until a state was read and has the guest go on.
func restored(ctx context.Context, do func(command string, out any) error) error {
	if err := migrated(ctx, do); err != nil {
		return err
	}
	return do("cont", nil)
}

func (h *Host) vm(name string) string { return filepath.Join(h.Dir, "vms", name) }

// Console is what the guest wrote to its serial port on this host.
func (h *Host) Console(vm string) string {
	b, _ := os.ReadFile(filepath.Join(h.vm(vm), consoleChannel+".log"))
	return string(b)
}

// PID is that of a VM's QEMU.
func (h *Host) PID(vm string) (int, error) {
	b, err := os.ReadFile(filepath.Join(h.vm(vm), "pid"))
	if err != nil {
		return 0, fmt.Errorf("find the QEMU of %s on %s: %w", vm, h.Name, err)
	}
	return strconv.Atoi(strings.TrimSpace(string(b)))
}

// Kill ends a VM's QEMU as a fault of it would, and returns when it is gone.
func (h *Host) Kill(vm string) error {
	pid, err := h.PID(vm)
	if err != nil {
		return err
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return fmt.Errorf("kill the QEMU of %s on %s: %w", vm, h.Name, err)
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil {
		return fmt.Errorf("kill the QEMU of %s on %s: %w", vm, h.Name, err)
	}
	// Readable once it has ended.
	if _, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 10_000); err != nil && !errors.Is(err, unix.EINTR) {
		return err
	}
	now := time.Now()
	for _, g := range h.lab.all() {
		if g.Shape.VM == vm {
			g.Runners.Ended(h.process(vm), now)
		}
	}
	return nil
}

// state is a manager's state store in memory.
type state map[string][]byte

func (s state) Get(_ context.Context, key string) ([]byte, error)     { return s[key], nil }
func (s state) Put(_ context.Context, key string, value []byte) error { s[key] = value; return nil }
func (s state) Delete(_ context.Context, key string) error            { delete(s, key); return nil }

func (s state) List(_ context.Context, prefix string) ([]string, error) {
	var keys []string
	for k := range s {
		if strings.HasPrefix(k, prefix) {
			keys = append(keys, k)
		}
	}
	return keys, nil
}
