package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"sync"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/qmp"
	"github.com/ratchetos/ratchet/plugins/migration/model"
	"github.com/ratchetos/ratchet/plugins/migration/vmhost/args"
	"github.com/ratchetos/ratchet/qemu/lab/load"
)

// Guest is one guest of a lab, wherever it runs.
type Guest struct {
	// BootID is what its agent reports.
	BootID string
	Shape  model.Shape
	Beats  Beats
	// Runners has the events of the QEMUs that ever had it, as far as the lab started them or was told.
	Runners Runners

	lab      *Lab
	ordering chan struct{} // held while an order is out
	answers  chan load.Result

	mu   sync.Mutex
	at   netip.AddrPort // where the last beat came from
	last uint64         // number of the last order
}

func (g *Guest) seenAt(from netip.AddrPort) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.at = from
}

// answered keeps the newest answer for whoever waits.
func (g *Guest) answered(r load.Result) {
	select {
	case <-g.answers:
	default:
	}
	g.answers <- r
}

// orderLimit is for how long a guest may be paused that was given an order.
const orderLimit = 3 * time.Minute

// order sends an order until it is answered. A guest that is paused answers when it runs again.
func (g *Guest) order(ctx context.Context, o load.Order) (load.Result, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, orderLimit, errors.New("it does not answer: look at its serial-console.log"))
	defer cancel()
	select {
	case g.ordering <- struct{}{}:
		defer func() { <-g.ordering }()
	case <-ctx.Done():
		return load.Result{}, context.Cause(ctx)
	}
	g.mu.Lock()
	g.last++
	o.N = g.last
	g.mu.Unlock()
	datagram, err := load.Encode(o)
	if err != nil {
		return load.Result{}, err
	}
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		g.mu.Lock()
		to := g.at
		g.mu.Unlock()
		if to.IsValid() {
			_, _ = g.lab.conn.WriteToUDPAddrPort(datagram, to) // one that is lost is sent again
		}
		select {
		case r := <-g.answers:
			if r.N == o.N && r.Error != "" {
				return r, errors.New(r.Error)
			}
			if r.N == o.N {
				return r, nil
			}
		case <-again.C:
		case <-ctx.Done():
			return load.Result{}, fmt.Errorf("order to guest %s: %w", g.Shape.VM, context.Cause(ctx))
		}
	}
}

// Memory has the guest fill mib MiB of its memory with what cannot be compressed and rewrite rate bytes of it a second.
func (g *Guest) Memory(ctx context.Context, mib int, rate int64) error {
	_, err := g.order(ctx, load.Order{Memory: &load.Memory{Pages: mib << 20 / load.PageSize, Rate: rate}})
	return err
}

// VerifyMemory stops that and has every page read. An error says that pages are bad or that the guest does not answer.
func (g *Guest) VerifyMemory(ctx context.Context) (load.Result, error) {
	r, err := g.order(ctx, load.Order{VerifyMemory: true})
	if err == nil && r.Bad > 0 {
		err = fmt.Errorf("guest %s: %d of %d pages are bad", g.Shape.VM, r.Bad, r.Checked)
	}
	return r, err
}

// Disk has the guest write the first blocks of a disk in turn, rate a second, each with a flush.
func (g *Guest) Disk(ctx context.Context, serial string, blocks, rate int) error {
	_, err := g.order(ctx, load.Order{Disk: &load.Disk{Serial: serial, Blocks: blocks, Rate: rate}})
	return err
}

// VerifyDisk stops that and has every block read that was written.
func (g *Guest) VerifyDisk(ctx context.Context) (load.Result, error) {
	r, err := g.order(ctx, load.Order{VerifyDisk: true})
	if err == nil && r.Bad > 0 {
		err = fmt.Errorf("guest %s: %d of %d blocks are bad", g.Shape.VM, r.Bad, r.Checked)
	}
	return r, err
}

// Beating waits until beats come that were sent after it was called.
func (g *Guest) Beating(ctx context.Context) error {
	have := g.Beats.Count()
	tick := time.NewTicker(load.Interval)
	defer tick.Stop()
	for g.Beats.Count() < have+3 { // the first may have waited in our socket
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("no heartbeat of guest %s: %w", g.Shape.VM, context.Cause(ctx))
		}
	}
	return nil
}

// Bare restores the guest in a bare QEMU and returns when it beats.
func (g *Guest) Bare(ctx context.Context, name string) (*Machine, error) {
	state, err := State(ctx, g.lab.Image, g.Shape)
	if err != nil {
		return nil, err
	}
	m, err := g.BareTarget(ctx, name, g.Shape)
	if err != nil {
		return nil, err
	}
	if err := m.QMP.Do(ctx, "migrate-incoming", map[string]any{"uri": "exec:cat " + state}, nil); err != nil {
		return nil, err
	}
	if err := m.migrated(ctx); err != nil {
		return nil, fmt.Errorf("restore guest %s: %w", g.Shape.VM, err)
	}
	if err := m.QMP.Do(ctx, "cont", nil, nil); err != nil {
		return nil, err
	}
	return m, g.meet(ctx, args.Socket(m.dir, labChannel))
}

// meet tells a guest that was restored who it is, over the socket of its lab channel, and waits until it beats.
func (g *Guest) meet(ctx context.Context, socket string) error {
	text, err := g.lab.control(g)
	if err != nil {
		return err
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return fmt.Errorf("meet guest %s: %w", g.Shape.VM, err)
	}
	defer conn.Close()
	if _, err := conn.Write(text); err != nil {
		return fmt.Errorf("meet guest %s: %w", g.Shape.VM, err)
	}
	return g.Beating(ctx)
}

// BareTarget starts a bare QEMU that waits for the guest: for migrate-incoming.
func (g *Guest) BareTarget(ctx context.Context, name string, s model.Shape) (*Machine, error) {
	m, err := startMachine(ctx, filepath.Join(g.lab.Dir, name), s, machineOptions{
		Incoming: true, Event: func(e qmp.Event) { g.Runners.Event(name, e.Name, e.Time) },
	})
	if err != nil {
		return nil, err
	}
	g.lab.OnClose(m.Close)
	return m, nil
}

// Credentials make a bare move one over TLS, as the product's are.
type Credentials struct {
	// Source and Target are directories as tls-creds-x509 wants them, Host the name in the target's certificate.
	Source, Target, Host string
}

// Move migrates between two bare QEMUs, without any of the care that package run takes: the peer it is measured against.
func (m *Machine) Move(ctx context.Context, to *Machine, c *Credentials) error {
	address := "unix:" + filepath.Join(to.dir, "incoming")
	do := func(at *Machine, command string, arguments map[string]any) error {
		return at.QMP.Do(ctx, command, arguments, nil)
	}
	unlimited := map[string]any{"max-bandwidth": 8 << 30}
	if c != nil {
		address = "tcp:127.0.0.1:0"
		for at, dir := range map[*Machine]string{m: c.Source, to: c.Target} {
			end := "client" // also its id: one that was a target becomes a source
			if at == to {
				end = "server"
			}
			if err := do(at, "object-add", map[string]any{"qom-type": "tls-creds-x509", "id": end, "dir": dir, "endpoint": end, "verify-peer": true}); err != nil {
				return err
			}
			if err := do(at, "migrate-set-parameters", map[string]any{"tls-creds": end, "tls-hostname": c.Host}); err != nil {
				return err
			}
		}
	}
	if err := do(to, "migrate-incoming", map[string]any{"uri": address}); err != nil {
		return err
	}
	if c != nil {
		var q struct {
			Addresses []struct {
				Port string `json:"port"`
			} `json:"socket-address"`
		}
		if err := to.QMP.Do(ctx, "query-migrate", nil, &q); err != nil || len(q.Addresses) == 0 {
			return fmt.Errorf("ask %s where it listens: %w", to.Name, err)
		}
		address = "tcp:127.0.0.1:" + q.Addresses[0].Port
	}
	if err := do(m, "migrate-set-parameters", unlimited); err != nil {
		return err
	}
	if err := do(m, "migrate", map[string]any{"uri": address}); err != nil {
		return err
	}
	if err := m.migrated(ctx); err != nil {
		return fmt.Errorf("move from %s to %s: %w", m.Name, to.Name, err)
	}
	// A cont before the destination has everything is lost.
	if err := to.migrated(ctx); err != nil {
		return fmt.Errorf("move from %s to %s: %w", m.Name, to.Name, err)
	}
	return to.QMP.Do(ctx, "cont", nil, nil)
}
