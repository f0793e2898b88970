package host

import (
	"context"
	"fmt"
	"os"
	"sort"
	"strings"

	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
)

// Resources opens what plugins want. The box implements it over package hw; [Local] holds
// the kinds that need no hardware.
type Resources interface {
	// Identify names the thing behind a Want, so that two plugins with different selectors
	// for one NIC are found out before anything starts. It opens nothing. Wants with an
	// empty name are private to the plugin and never in conflict.
	Identify(ctx context.Context, plugin string, want *pluginpb.Want) (id string, err error)
	// Open opens it. The host keeps it open over restarts of the plugin and calls Release
	// when the plugin is stopped or does not want it any more.
	Open(ctx context.Context, req Request) (Opened, error)
}

// Request is one thing to open for one plugin.
type Request struct {
	Plugin string
	Want   *pluginpb.Want
	// NetNS is the plugin's network namespace, nil when it shares core's. A NIC moves into
	// it (MoveLink), a listener is made in it.
	NetNS *os.File
	// Trusted says that the plugin is built in and a companion: it may have parts of the kernel.
	Trusted bool
	// Dir is the plugin's own directory, which DIRECTORY hands out.
	Dir string
	// UID is the plugin's user; 0 when it runs as core does.
	UID int
}

// Opened is a thing that is open.
type Opened struct {
	// Handle is what the plugin is told; Name, Kind and HasFd are filled in by the host.
	Handle *pluginpb.Handle
	// File is sent to the plugin; core keeps this one. Nil for a NIC.
	File *os.File
	// Release gives the thing back, after File was closed. May be nil.
	Release func() error
	// Sent is called when a process has it, so that memory is only fresh once. May be nil.
	Sent func(*pluginpb.Handle)
}

// ConflictError says that two plugins want one thing.
type ConflictError struct {
	ID     string
	Holder string // has it, or comes first
	Wants  string // may not have it
	Path   string // in the section of Wants
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("%s is wanted by %s and by %s (%s): give it to one of them", e.ID, e.Holder, e.Wants, e.Path)
}

// claim is one plugin's wish for one identified thing.
type claim struct {
	plugin string
	id     string
	path   string
	held   bool // the plugin runs with it already
}

// conflicts finds the things that several plugins claim. A running plugin keeps what it
// has; among those that have nothing yet nobody wins, because an order that nobody chose
// must not decide which plugin writes to a disk.
func conflicts(claims []claim) []*ConflictError {
	byID := make(map[string][]claim)
	for _, c := range claims {
		if c.id != "" {
			byID[c.id] = append(byID[c.id], c)
		}
	}
	var out []*ConflictError
	for id, cs := range byID {
		sort.SliceStable(cs, func(i, j int) bool {
			if cs[i].held != cs[j].held {
				return cs[i].held
			}
			return cs[i].plugin < cs[j].plugin
		})
		first := cs[0]
		for _, c := range cs[1:] {
			if c.plugin == first.plugin {
				continue // the plugin's own affair
			}
			out = append(out, &ConflictError{ID: id, Holder: first.plugin, Wants: c.plugin, Path: c.path})
			if !first.held {
				out = append(out, &ConflictError{ID: id, Holder: c.plugin, Wants: first.plugin, Path: first.path})
			}
		}
	}
	sort.Slice(out, func(i, j int) bool {
		return strings.Compare(out[i].Wants+out[i].ID, out[j].Wants+out[j].ID) < 0
	})
	return out
}
