package vmhost

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/model"
	"github.com/ratchetos/ratchet/plugins/migration/vmhost/args"
	"github.com/ratchetos/ratchet/plugins/migration/vmhost/client"
	"github.com/ratchetos/ratchet/plugins/migration/vmhost/pki"
)

// Options of a Host; the zero value works.
type Options struct {
	Log *slog.Logger
	// Networks come on top of the file's, for labs.
	Networks map[string]args.Network
	// Tied ends all QEMUs with this process, for labs.
	Tied bool
	// Transcript gets every line of every monitor; sent is true for ours. It must not keep the line.
	Transcript func(vm string, sent bool, line []byte)
	// Identity takes the place of the file that the configuration names.
	Identity *pki.Identity
}

// Host is the agent.
type Host struct {
	c        Config
	o        Options
	identity *pki.Identity
	networks map[string]args.Network
	fence    *fence
	events   hub
	starter  *starter
	probe    prober
	lock     *os.File // of the directory: one agent at a time
	work     sync.WaitGroup

	mu       sync.Mutex
	vms      map[string]*machine
	still    map[string]bool        // names of those that have ended standing still since the switch of a move
	starting map[string]model.Shape // names and what they will take
	closed   bool
}

var errClosed = errors.New("the agent is stopping")

// New makes the agent of a host and adopts the VMs that an earlier one has left running. c is as Load returns it.
func New(c Config, o Options) (*Host, error) {
	c.defaults()
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	h := &Host{c: c, o: o, identity: o.Identity, networks: c.networks(), vms: map[string]*machine{}, still: map[string]bool{}, starting: map[string]model.Shape{}}
	maps.Copy(h.networks, o.Networks)
	if err := h.open(); err != nil {
		return nil, err
	}
	h.starter = newStarter(o.Tied)
	h.probe.host = h
	if err := h.adoptAll(); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return h, nil
}

// open takes the directory.
func (h *Host) open() (err error) {
	if h.identity == nil {
		if h.identity, err = pki.ReadIdentity(h.c.Identity); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Join(h.c.Dir, "vms"), 0o700); err != nil {
		return fmt.Errorf("make directory of VMs: %w", err)
	}
	if h.lock, err = os.Open(h.c.Dir); err != nil {
		return fmt.Errorf("open directory of VMs: %w", err)
	}
	if err := unix.Flock(int(h.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		h.lock.Close()
		return fmt.Errorf("another agent uses %s: %w", h.c.Dir, err)
	}
	if h.fence, err = openFence(filepath.Join(h.c.Dir, "epoch.json")); err == nil {
		err = h.writeCredentials()
	}
	if err != nil {
		h.lock.Close()
	}
	return err
}

// dhParams is the group ffdhe2048 of RFC 7919. TLS 1.3 between two QEMUs has no use for it, but without the file each
// destination makes parameters of its own when it is prepared, which takes a second.
const dhParams = `-----BEGIN DH PARAMETERS-----
MIIBCAKCAQEA//////////+t+FRYortKmq/cViAnPTzx2LnFg84tNpWp4TZBFGQz
+8yTnc4kmz75fS/jY2MMddj2gbICrsRhetPfHtXV/WVhJDP1H18GbtCFY2VVPe0a
87VXE15/V8k1mE8McODmi3fipona8+/och3xWKE2rec1MKzKT0g6eXq8CrGCsyT7
YdEIqUuyyOP7uWrat2DX9GgdT0Kj3jlN9K5W7edjcrsZCwenyO4KbXCeAvzhzffi
7MA0BM0oNC9hkXL+nOmFg/+OTxIy7vKBg8P+OxtMb61zO7X8vC7CIAXFjvGDfRaD
ssbzSibBsu/6iGtCOGEoXJf//////////wIBAg==
-----END DH PARAMETERS-----
`

// writeCredentials lays the host's file out as QEMU reads it, for both ends of a transfer.
func (h *Host) writeCredentials() error {
	cert, key, ca, err := h.identity.PEM()
	if err != nil {
		return err
	}
	dir := h.credentials()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make directory of certificates: %w", err)
	}
	for name, b := range map[string][]byte{
		"ca-cert.pem": ca, "server-cert.pem": cert, "server-key.pem": key, "client-cert.pem": cert, "client-key.pem": key,
		"dh-params.pem": []byte(dhParams),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			return fmt.Errorf("write certificate: %w", err)
		}
	}
	return nil
}

func (h *Host) credentials() string { return filepath.Join(h.c.Dir, "tls") }

// Name is the host's, as it was enrolled.
func (h *Host) Name() string { return h.identity.Name }

// Socket is the operator's.
func (h *Host) Socket() string { return filepath.Join(h.c.Dir, "control.sock") }

func (h *Host) vmDir(name string) string { return filepath.Join(h.c.Dir, "vms", name) }

// adoptAll finds what runs. A record whose QEMU has ended stays for people to look at, until the name is used again.
func (h *Host) adoptAll() error {
	entries, err := os.ReadDir(filepath.Join(h.c.Dir, "vms"))
	if err != nil {
		return fmt.Errorf("read directory of VMs: %w", err)
	}
	for _, e := range entries {
		if !args.Word(e.Name()) {
			continue
		}
		if err := h.adopt(e.Name()); err != nil { // whether it runs is not known, and must be
			return fmt.Errorf("adopt %s: %w", e.Name(), err)
		}
	}
	return nil
}

// Close ends the agent. VMs go on, unless they are tied to it.
func (h *Host) Close() error {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return nil
	}
	h.closed = true
	list := slices.Collect(maps.Values(h.vms))
	h.mu.Unlock()
	for _, m := range list {
		if h.o.Tied {
			_ = m.proc.kill()
		}
		m.leave()
	}
	h.work.Wait()
	h.events.close()
	h.starter.close()
	return h.lock.Close()
}

// machine returns a VM that runs.
func (h *Host) machine(name string) (*machine, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if m := h.vms[name]; m != nil {
		return m, nil
	}
	return nil, fmt.Errorf("%s on %s: %w", name, h.Name(), hypervisor.ErrNoSuchVM)
}

// machines are all that run, by name.
func (h *Host) machines() []*machine {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := slices.Collect(maps.Values(h.vms))
	slices.SortFunc(list, func(a, b *machine) int { return strings.Compare(a.name, b.name) })
	return list
}

// reserve takes the name and the room for a VM, until release.
func (h *Host) reserve(s model.Shape) (release func(), err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, errClosed
	}
	if _, twice := h.starting[s.VM]; twice || h.vms[s.VM] != nil {
		return nil, fmt.Errorf("start %s: %w", s.VM, client.ErrExists)
	}
	vcpus, memory := h.used()
	switch l := h.c.Limits; {
	case len(h.vms)+len(h.starting) >= l.VMs:
		return nil, fmt.Errorf("start %s: the host has %d VMs, the most it takes; see `limits` in its configuration", s.VM, l.VMs)
	case vcpus+s.VCPUs > l.VCPUs:
		return nil, fmt.Errorf("start %s: it wants %d vCPUs, %d of %d are free; see `limits` in the host's configuration", s.VM, s.VCPUs, l.VCPUs-vcpus, l.VCPUs)
	case memory+s.Memory.Total() > uint64(l.Memory):
		return nil, fmt.Errorf("start %s: it wants %d MiB, %d are free; see `limits` in the host's configuration",
			s.VM, s.Memory.Total()>>20, (uint64(l.Memory)-min(memory, uint64(l.Memory)))>>20)
	}
	h.starting[s.VM] = s
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.starting, s.VM)
	}, nil
}

// used is what VMs take now. h.mu is held.
func (h *Host) used() (vcpus int, memory uint64) {
	add := func(s model.Shape) {
		vcpus += s.VCPUs
		memory += s.Memory.Total()
	}
	for _, m := range h.vms {
		add(m.record().Shape)
	}
	for _, s := range h.starting {
		add(s)
	}
	return vcpus, memory
}

// Describe tells what the host is and can hold.
func (h *Host) Describe(ctx context.Context) (client.Host, error) {
	known, err := h.probe.result(ctx)
	if err != nil {
		return client.Host{}, err
	}
	first, last, err := h.c.Move.ports()
	if err != nil {
		return client.Host{}, err
	}
	r := client.Host{Host: known, Address: h.c.Move.Address, FirstPort: first, LastPort: last, Credentials: h.credentials(), Epoch: h.fence.highest()}
	r.Name, r.TLS = h.Name(), true
	r.Networks = slices.Sorted(maps.Keys(h.networks))
	h.mu.Lock()
	defer h.mu.Unlock()
	vcpus, memory := h.used()
	r.FreeVCPUs = max(0, h.c.Limits.VCPUs-vcpus)
	r.FreeMemory = uint64(h.c.Limits.Memory) - min(memory, uint64(h.c.Limits.Memory))
	return r, nil
}

// hostMemory is the machine's, in bytes.
func hostMemory() uint64 {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return 0
	}
	return info.Totalram * uint64(info.Unit)
}
