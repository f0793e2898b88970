package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"

	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/plugins/gateway/attach"
	"github.com/ratchetos/ratchet/plugins/gateway/nbd"
)

// legacy are connections on their way from one process to the next. The zero value takes none.
type legacy struct {
	mu     sync.Mutex
	open   bool // takes some
	conns  []inheritance
	closed int // for which there was no place
}

// inheritance is one connection, and which listener it came in at: that decides what it may see.
type inheritance struct {
	Listen string `json:"listen"`
	nbd.Handed
}

// luggage is the state that goes with the sockets, which are named by their places in the list.
type luggage struct {
	Version     int           `json:"version"`
	Connections []inheritance `json:"connections"`
}

const luggageVersion = 1

// add takes a connection along if there is a place. One of the kernel's targets gets that of another: it stands for all
// initiators of a disk, and what it has under way would wait for 10 s.
func (g *legacy) add(listen string, c nbd.Handed) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.open {
		return false
	}
	if len(g.conns) == plugin.MaxSockets {
		g.closed++
		other := slices.IndexFunc(g.conns, func(i inheritance) bool { return i.Listen != wantTargets })
		if listen != wantTargets || other < 0 {
			return false
		}
		g.conns[other].Socket.Close()
		g.conns = slices.Delete(g.conns, other, other+1)
	}
	g.conns = append(g.conns, inheritance{listen, c})
	return true
}

// at takes out what came in at a listener.
func (g *legacy) at(listen string) (list []nbd.Handed) {
	g.mu.Lock()
	defer g.mu.Unlock()
	var rest []inheritance
	for _, c := range g.conns {
		if c.Listen == listen {
			list = append(list, c.Handed)
		} else {
			rest = append(rest, c)
		}
	}
	g.conns = rest
	return list
}

// leave ends the connections of a volume, which may be the only one and not named.
func (g *legacy) leave(volume string, only bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.conns = slices.DeleteFunc(g.conns, func(c inheritance) bool {
		name, _, _ := attach.Split(c.Export)
		of := name == volume || name == "" && only
		if of {
			c.Socket.Close()
		}
		return of
	})
}

// close ends what nobody took.
func (g *legacy) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, c := range g.conns {
		c.Socket.Close()
	}
	g.conns, g.open = nil, false
}

// Export implements plugin.Handover: it answers what has been asked, makes what has been acknowledged durable, and
// leaves the connections that can go on elsewhere. Clients of the next process find every write that they were told of; those of a
// volume of which that cannot be made sure, or that serves no more, have to connect again.
func (f *Feature) Export(ctx context.Context) (plugin.Luggage, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.session == nil {
		return plugin.Luggage{}, errors.New("not serving")
	}
	f.legacy.mu.Lock()
	f.legacy.open, f.legacy.closed = true, 0
	f.legacy.mu.Unlock()
	f.unserve()
	f.servers.Wait()
	for _, r := range f.runners {
		v, _, _ := r.current()
		if v == nil {
			continue
		}
		if err := v.Flush(ctx); err != nil {
			f.session.Log.Warn("connections of a volume are not handed on", "volume", r.name, "error", err)
			f.legacy.leave(r.name, len(f.runners) == 1) // clients see the failure when they connect again, as after a crash
		}
	}
	f.legacy.mu.Lock()
	defer f.legacy.mu.Unlock()
	if n := f.legacy.closed; n > 0 {
		f.session.Log.Warn("not all NBD connections can be handed on, the others are closed", "closed", n, "limit", plugin.MaxSockets)
	}
	l := plugin.Luggage{Sockets: map[string]*os.File{}}
	state, err := json.Marshal(luggage{luggageVersion, f.legacy.conns})
	if err != nil {
		return plugin.Luggage{}, fmt.Errorf("describe connections: %w", err)
	}
	l.State = state
	for i, c := range f.legacy.conns {
		l.Sockets[strconv.Itoa(i)] = c.Socket
	}
	f.legacy.conns, f.legacy.open = nil, false
	return l, nil
}

// Import implements plugin.Handover. The connections go on when the gateway starts.
func (f *Feature) Import(_ context.Context, l plugin.Luggage) error {
	var state luggage
	err := json.Unmarshal(l.State, &state)
	switch {
	case err != nil:
		err = fmt.Errorf("read connections of the process before: %w", err)
	case state.Version != luggageVersion:
		err = fmt.Errorf("connections of the process before are in form %d", state.Version)
	case len(state.Connections) != len(l.Sockets):
		err = fmt.Errorf("%d connections with %d sockets", len(state.Connections), len(l.Sockets))
	}
	if err != nil {
		l.Close() // clients connect again
		return err
	}
	f.inherited.mu.Lock()
	defer f.inherited.mu.Unlock()
	for i, c := range state.Connections {
		if c.Socket = l.Sockets[strconv.Itoa(i)]; c.Socket != nil {
			f.inherited.conns = append(f.inherited.conns, c)
		}
	}
	return nil
}
