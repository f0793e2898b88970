package hypervisortest

import (
	"errors"
	"fmt"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
)

// Call is one call of a Port or a Transfer of a World, as a fault is chosen by.
type Call struct {
	N    int // counted over all hosts, from 0
	Host string
	Name string // as "Prepare", or "Transfer.Complete"
	VM   string
}

func (c Call) String() string { return fmt.Sprintf("%d:%s@%s", c.N, c.Name, c.Host) }

// Fault is what goes wrong at a call.
type Fault int

// Faults. A manager that crashed finds all Ports that it opened to be of no more use; the next one opens its own.
const (
	None        Fault = iota
	FailBefore        // the call fails and nothing was done
	FailAfter         // it was done, and the answer got lost
	CrashBefore       // the manager dies before the call has reached the host
	CrashAfter        // … or after it was carried out
	Stall             // the host does not answer until the caller gives up
	KillHere          // the VM's process on the host of the call is dead
	KillThere         // its processes on all other hosts are
	HostAway          // the host cannot be reached until Back
	RunOn             // a Complete has its effect on the destination, but the source has not heard so: it fails, and the VM runs on there
)

// Faults lists those that a test may want to try at each call.
func Faults() []Fault {
	return []Fault{FailBefore, FailAfter, CrashBefore, CrashAfter, Stall, KillHere, KillThere, HostAway, RunOn}
}

func (f Fault) String() string {
	names := []string{"none", "fail before", "fail after", "crash before", "crash after", "stall", "kill here", "kill there", "host away", "run on"}
	if f < 0 || int(f) >= len(names) {
		return "unknown fault"
	}
	return names[f]
}

var (
	// ErrInjected is how a call fails that was told to.
	ErrInjected = errors.New("injected fault")
	// ErrCrashed is what a manager gets that is dead.
	ErrCrashed = errors.New("the manager has crashed")
	// ErrAway means that the host cannot be reached.
	ErrAway = errors.New("the host cannot be reached")
)

// Inject sets what is asked before each call; nil is no faults. It is called with the World locked.
func (w *World) Inject(fault func(Call) Fault) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fault = fault
}

// Crash ends the manager: each Port opened until now is of no more use.
func (w *World) Crash() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.crash()
}

func (w *World) crash() {
	w.manager++
	w.notify()
}

// Kill ends a VM's process on a host, as if QEMU had crashed.
func (w *World) Kill(host, vm string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.kill(host, vm)
}

func (w *World) kill(host, vm string) {
	h := w.hosts[host]
	p := h.vms[vm]
	if p == nil {
		return
	}
	delete(h.vms, vm)
	h.still[vm] = p.state == hypervisor.Moving || p.state == hypervisor.Moved
	w.event(host, vm, "GONE", "")
	// A source learns of a dead destination at once while it sends, but not while it waits before the switch: there it
	// finds out when it goes on (invariant M1).
	for _, other := range w.hosts {
		if s := other.vms[vm]; s != nil && s.transfer != nil && s.transfer.to == host {
			s.transfer.broken = true
			if s.transfer.phase == active {
				w.fail(s, "the destination is gone")
			}
		}
	}
	if t := p.transfer; t != nil {
		t.end(failed, "the source is gone")
	}
}

// Away makes a host unreachable, its VMs go on; Back ends that.
func (w *World) Away(host string) { w.setAway(host, true) }

// Back ends Away.
func (w *World) Back(host string) { w.setAway(host, false) }

func (w *World) setAway(host string, away bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hosts[host].away = away
	w.notify()
}
