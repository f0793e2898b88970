// Package vmhosttest starts agents of hypervisor hosts for tests, on loopback with certificates of their own.
package vmhosttest

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/qmp"
	"github.com/ratchetos/ratchet/plugins/migration/vmhost"
	"github.com/ratchetos/ratchet/plugins/migration/vmhost/args"
	"github.com/ratchetos/ratchet/plugins/migration/vmhost/pki"
)

// Options of Hosts; the zero value works.
type Options struct {
	Log        *slog.Logger
	Networks   map[string]args.Network
	Images     []string // directories of kernels and the like
	Tokens     func(host string) map[string]string
	Transcript func(host, vm string, sent bool, line []byte)
	// Plain hosts move memory and disks without TLS.
	Plain bool
}

// Hosts are agents in this process, whose QEMUs end with it.
type Hosts struct {
	o         Options
	dir       string
	Authority *pki.Authority

	mu    sync.Mutex
	hosts map[string]*running
	ports map[string]*qmp.Port
	epoch uint64
}

type running struct {
	conf     vmhost.Config
	identity *pki.Identity
	host     *vmhost.Host
	address  string
	cancel   context.CancelFunc
	ended    chan error
}

// New starts agents by these names. dir is for them alone, and short: sockets are in it.
func New(ctx context.Context, dir string, o Options, names ...string) (*Hosts, error) {
	qemu, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		return nil, fmt.Errorf("find QEMU: %w", err)
	}
	h := &Hosts{o: o, dir: dir, hosts: map[string]*running{}, ports: map[string]*qmp.Port{}, epoch: 1}
	if h.Authority, err = pki.Open(ctx, memory{}); err != nil {
		return nil, err
	}
	for _, name := range names {
		file, err := h.Authority.Enroll(ctx, name)
		if err != nil {
			return nil, err
		}
		r := &running{conf: vmhost.Config{
			Listen: "127.0.0.1:0", Dir: filepath.Join(dir, name), QEMU: qemu, Accels: []string{"tcg"}, Images: o.Images, Consoles: true,
			Move: vmhost.MoveConfig{Address: "127.0.0.1"}, Disks: []string{filepath.Join(dir, name+".disks")},
		}}
		if o.Tokens != nil {
			r.conf.Tokens = o.Tokens(name)
		}
		path := filepath.Join(dir, name+".pem")
		if err := os.WriteFile(path, file, 0o600); err != nil {
			return nil, err
		}
		if err := os.MkdirAll(r.conf.Disks[0], 0o700); err != nil {
			return nil, err
		}
		if r.identity, err = pki.ReadIdentity(path); err != nil {
			return nil, err
		}
		h.hosts[name] = r
		if err := h.start(name, r); err != nil {
			h.Close()
			return nil, err
		}
	}
	return h, nil
}

func (h *Hosts) start(name string, r *running) error {
	o := vmhost.Options{Log: h.o.Log, Networks: h.o.Networks, Tied: true, Identity: r.identity}
	if t := h.o.Transcript; t != nil {
		o.Transcript = func(vm string, sent bool, line []byte) { t(name, vm, sent, line) }
	}
	listen := r.address // again at the same place
	if listen == "" {
		listen = r.conf.Listen
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	if r.host, err = vmhost.New(r.conf, o); err != nil {
		l.Close()
		return err
	}
	r.address = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel, r.ended = cancel, make(chan error, 1)
	go func() { r.ended <- r.host.Serve(ctx, l) }()
	return nil
}

// Host is the agent of a name.
func (h *Hosts) Host(name string) *vmhost.Host { return h.hosts[name].host }

// Address is where the agent of a name listens, HOST:PORT.
func (h *Hosts) Address(name string) string { return h.hosts[name].address }

// Disks is where local disks of a host may be.
func (h *Hosts) Disks(name string) string { return h.hosts[name].conf.Disks[0] }

// Port is the manager's connection to a host: one for all who ask. It is made anew when it was lost, and by Crash.
func (h *Hosts) Port(ctx context.Context, name string) (hypervisor.Port, error) {
	p, err := h.QMP(ctx, name)
	if err != nil {
		return nil, err // not p: a nil *qmp.Port in an interface is not nil
	}
	return p, nil
}

// QMP is Port by its type.
func (h *Hosts) QMP(ctx context.Context, name string) (*qmp.Port, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p := h.ports[name]; p != nil && p.Err() == nil {
		return p, nil
	}
	p, err := h.dial(ctx, name, nil)
	if err == nil {
		h.ports[name] = p
	}
	return p, err
}

// Dial makes a connection of its own, with a transcript, which the caller closes.
func (h *Hosts) Dial(ctx context.Context, name string, transcript func(vm string, sent bool, line []byte)) (*qmp.Port, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.dial(ctx, name, transcript)
}

// dial is called with h.mu held.
func (h *Hosts) dial(ctx context.Context, name string, transcript func(vm string, sent bool, line []byte)) (*qmp.Port, error) {
	r := h.hosts[name]
	if r == nil {
		return nil, fmt.Errorf("there is no host %s", name)
	}
	config, err := h.Authority.ClientTLS(name)
	if err != nil {
		return nil, err
	}
	return qmp.DialVMHost(ctx, qmp.VMHost{
		Name: name, Address: r.address, TLS: config, Epoch: h.epoch, Peers: h.Port, Plain: h.o.Plain, Transcript: transcript,
	})
}

// Epoch is that of the connections that are made now.
func (h *Hosts) Epoch() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.epoch
}

// Crash ends the manager's connections; the next have a higher epoch.
func (h *Hosts) Crash() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for name, p := range h.ports {
		p.Close()
		delete(h.ports, name)
	}
	h.epoch++
}

// Close ends agents and QEMUs.
func (h *Hosts) Close() error {
	h.Crash()
	var problems []string
	for name, r := range h.hosts {
		if r.host == nil {
			continue
		}
		r.cancel()
		if err := <-r.ended; err != nil {
			problems = append(problems, name+": "+err.Error())
		}
		if err := r.host.Close(); err != nil {
			problems = append(problems, name+": "+err.Error())
		}
	}
	if problems != nil {
		return fmt.Errorf("end hosts: %s", strings.Join(problems, "; "))
	}
	return nil
}

// memory is a state store.
type memory map[string][]byte

func (m memory) Get(_ context.Context, key string) ([]byte, error)     { return m[key], nil }
func (m memory) Put(_ context.Context, key string, value []byte) error { m[key] = value; return nil }

func (m memory) Delete(_ context.Context, key string) error { delete(m, key); return nil }

func (m memory) List(_ context.Context, prefix string) ([]string, error) {
	var keys []string
	for k := range m {
		if strings.HasPrefix(k, prefix) {
			keys = append(keys, k)
		}
	}
	return keys, nil
}
