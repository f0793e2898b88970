package dataplane

import (
	"fmt"
	"strings"

	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/plugins/dataplane/link"
)

// maxRounds bounds how often one reconciliation looks again after it has changed something.
const maxRounds = 4

// kernel is the part of link.Namespace that the keeper needs.
type kernel interface {
	Observe() ([]link.Observed, error)
	Do(op link.Op) error
}

var _ kernel = (*link.Namespace)(nil)

// keeper holds the links of a section to their configured state. It is stepped by the service's one goroutine.
type keeper struct {
	kernel kernel
	links  []kept
}

// kept is one configured link and what became of it at the last step.
type kept struct {
	configured
	handle   plugin.Handle
	observed link.Observed
	present  bool
	err      error // why it is not as configured
}

// step brings every link to its configured state, one failing link not holding up the others, and says whether
// all of them are there now.
func (k *keeper) step() (settled bool) {
	changed := true
	for round := 0; changed && round < maxRounds; round++ {
		all, err := k.kernel.Observe()
		if err != nil {
			for i := range k.links {
				k.links[i].err = err
			}
			return false
		}
		changed = false
		for i := range k.links {
			changed = k.links[i].reconcile(k.kernel, all) || changed
		}
	}
	settled = true
	for i := range k.links {
		settled = settled && k.links[i].err == nil
	}
	return settled
}

// reconcile carries out the plan for one link and says whether it changed anything.
func (l *kept) reconcile(kernel kernel, all []link.Observed) (changed bool) {
	o, found := l.find(all)
	if !found {
		l.present, l.err = false, fmt.Errorf("NIC %s is not there: unplugged, or taken away", l.handle.ID)
		return false
	}
	l.observed, l.present, l.err = o, true, nil
	for _, op := range link.Plan(l.desired, o) {
		if err := kernel.Do(op); err != nil {
			// What follows may need what failed; the next round or event starts from the truth again.
			l.err = fmt.Errorf("link %s: %w", o.Name, err)
			return changed
		}
		changed = true
	}
	return changed
}

// find looks for the NIC by its address, which survives renaming and re-plugging, else by its number, and before that is known
// by the name core gave.
func (l *kept) find(all []link.Observed) (link.Observed, bool) {
	if mac, ok := strings.CutPrefix(l.handle.ID, "mac:"); ok {
		for _, o := range all {
			if strings.EqualFold(o.MAC, mac) {
				return o, true
			}
		}
		return link.Observed{}, false
	}
	for _, o := range all {
		if l.observed.Index != 0 && o.Index == l.observed.Index {
			return o, true
		}
	}
	for _, o := range all {
		if o.Name == l.handle.Device || (l.desired.Name != "" && o.Name == l.desired.Name) {
			return o, true
		}
	}
	return link.Observed{}, false
}
