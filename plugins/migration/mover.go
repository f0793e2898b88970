package migration

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/libvirt"
	"github.com/ratchetos/ratchet/plugins/migration/run"
	"github.com/ratchetos/ratchet/plugins/migration/run/journal"
	"github.com/ratchetos/ratchet/plugins/migration/schedule/live"
	"github.com/ratchetos/ratchet/plugins/migration/vmhost/pki"
)

// mover is the part of the plugin that moves VMs. There is one while the configuration has hosts to move between.
type mover struct {
	f         *Feature
	core      plugin.Host
	runner    *run.Runner
	authority *pki.Authority
	volumes   volumes
	orders    *orders
	schedule  *live.Live // nil without links
	// libvirt is what all connections to daemons share: a move needs both sides.
	libvirt libvirt.Moves
	given   *given
	tally   tally             // of the feature's events: under its mu
	files   map[string][]byte // credentials by the name of their Want
	log     *slog.Logger
}

// defaultAtOnce is how many moves are under way at once where the configuration does not say.
const defaultAtOnce = 2

// newMover opens the journal and the authority. It is called with f.mu held and gives no order yet.
func (f *Feature) newMover(ctx context.Context, s *plugin.Session) (*mover, error) {
	m := &mover{f: f, log: s.Log, core: s.Host, volumes: volumes{s.Host, f.config.Gateway}, tally: tally{since: time.Now()}}
	var err error
	if m.files, err = readAll(s.Handles); err != nil {
		return nil, err
	}
	if m.authority, err = pki.Open(ctx, s.Host); err != nil {
		return nil, err
	}
	state := s.Handles[wantState]
	if state.File != nil {
		state.File.Close() // it has let us write below the directory, and has nothing more to give
	}
	m.runner, err = run.Open(run.Options{
		Ports: m.port, Volumes: m.volumes, Disk: journal.Dir(state.ID), Epoch: s.Epoch, Moves: f.config.atOnce(),
		Changed: m.changed, Grant: m.grant, Log: s.Log,
	})
	if err != nil {
		return nil, fmt.Errorf("open the journal of moves: %w", err)
	}
	if m.orders, err = openOrders(ctx, m); err != nil {
		return nil, errors.Join(err, m.runner.Close())
	}
	if m.given, err = openGiven(ctx, m); err != nil {
		return nil, errors.Join(err, m.runner.Close())
	}
	if m.schedule, err = m.newSchedule(ctx, f.config.Schedule); err != nil {
		return nil, errors.Join(err, m.runner.Close())
	}
	return m, nil
}

// readAll reads the files that core has opened. They are small: certificates and keys.
func readAll(handles map[string]plugin.Handle) (map[string][]byte, error) {
	files := map[string][]byte{}
	for name, h := range handles {
		if h.Kind != pluginpb.Kind_FILE {
			continue
		}
		text, err := io.ReadAll(io.LimitReader(h.File, maxPEM))
		if err := errors.Join(err, h.File.Close()); err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		files[name] = text
	}
	return files, nil
}

// maxPEM bounds a file of certificates.
const maxPEM = 1 << 20

// port is the open connection to a host.
func (m *mover) port(host string) (hypervisor.Port, error) {
	m.f.mu.Lock()
	defer m.f.mu.Unlock()
	for _, h := range m.f.hosts {
		if h.conf.Name == host {
			return h.port()
		}
	}
	return nil, finally("no host %q in the configuration; `ratchetctl migrate hosts` lists them", host)
}

// changed is told by the runner that a move has changed: what is shown is, and what waits may have its turn.
func (m *mover) changed() {
	if m.orders != nil { // links are watched a moment earlier
		m.orders.look()
	}
	m.f.changed()
}

// resume takes up what an earlier process left.
func (m *mover) resume() {
	m.runner.Resume()
	m.orders.start()
}

// drain lets moves under way end.
func (m *mover) drain(ctx context.Context, progress func(inFlight uint64)) error {
	m.orders.stop()
	t := time.NewTicker(drainLook)
	defer t.Stop()
	for {
		n := uint64(0)
		for _, s := range m.runner.Moves() {
			if !s.Ends() {
				n++
			}
		}
		progress(n)
		if n == 0 {
			return nil
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// drainLook is how often moves that are waited for are counted.
const drainLook = 100 * time.Millisecond

// close gives no more orders and returns when nothing runs. Nothing is undone: the journal goes on in the next process.
func (m *mover) close(ctx context.Context) {
	m.orders.stop()
	if m.schedule != nil {
		if err := m.schedule.Close(ctx); err != nil {
			m.log.Error("keep the history of links", "err", err)
		}
	}
	if err := m.runner.Close(); err != nil {
		m.log.Error("close the journal of moves", "err", err)
	}
}

// newID names a move: short enough to be typed, and not given twice.
func newID() string { return "m-" + strings.ToLower(rand.Text()[:8]) }
