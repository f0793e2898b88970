package migration

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"sync"

	"github.com/ratchetos/ratchet/plugins/migration/queue"
)

// stateTypes is where given is kept.
const stateTypes = "types"

// given is the name of the type that each VM was last given by a move, by the name of the VM: what templates select by.
// A hypervisor knows nothing of types, and a shape may fit several.
type given struct {
	mu sync.Mutex
	by map[string]string
}

// openGiven reads what an earlier process has kept.
func openGiven(ctx context.Context, m *mover) (*given, error) {
	text, err := m.core.Get(ctx, stateTypes)
	if err != nil {
		return nil, err
	}
	g := &given{by: map[string]string{}}
	if len(text) > 0 {
		if err := json.Unmarshal(text, &g.by); err != nil {
			return nil, fmt.Errorf("read the types of VMs: %w", err)
		}
	}
	return g, nil
}

// of is the type of a VM, "" for none.
func (g *given) of(vm string) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.by[vm]
}

// typeGiven is the type that an order names, "" for none: it leaves the VM what it was.
func typeGiven(e *queue.Entry) string {
	var what order
	if e == nil || json.Unmarshal(e.Order, &what) != nil {
		return ""
	}
	return cmp.Or(what.Type, what.Change.Name)
}

// gave notes that a VM has arrived as a type. VMs that no host has any more are forgotten, once all hosts answer.
func (m *mover) gave(ctx context.Context, rows []row, vm, name string) error {
	if name == "" || m.given.of(vm) == name {
		return nil
	}
	all, exist := true, map[string]bool{vm: true}
	for _, r := range rows {
		all = all && r.state == up
		for _, v := range r.vms {
			exist[v.Name] = true
		}
	}
	g := m.given
	g.mu.Lock()
	defer g.mu.Unlock()
	by := maps.Clone(g.by)
	if all {
		maps.DeleteFunc(by, func(vm, _ string) bool { return !exist[vm] })
	}
	by[vm] = name
	text, err := json.Marshal(by)
	if err == nil {
		err = m.core.Put(ctx, stateTypes, text)
	}
	if err != nil {
		return fmt.Errorf("keep the type of %s: %w", vm, err)
	}
	g.by = by
	return nil
}
