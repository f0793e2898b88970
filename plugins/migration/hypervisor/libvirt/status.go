package libvirt

import (
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/libvirt/domxml"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/libvirt/remote"
)

// Status implements hypervisor.Port. A VM that is only defined is Absent.
func (p *Port) Status(ctx context.Context, vm string) (hypervisor.State, error) {
	dom, err := p.active(ctx, vm)
	if gone(err) {
		return hypervisor.Absent, nil
	}
	if err != nil {
		return hypervisor.Unknown, err
	}
	s, _, err := p.state(ctx, dom)
	if gone(err) {
		return hypervisor.Absent, nil
	}
	return s, err
}

var _ hypervisor.Witness = (*Port)(nil)

// StoodStill implements hypervisor.Witness. A source whose Perform3 has succeeded waits for Confirm3, also when the connection
// ends; one whose has not, libvirt or QEMU has let run again.
func (p *Port) StoodStill(_ context.Context, m hypervisor.Move) (bool, error) {
	x := p.moves.transfer(m.ID)
	return x != nil && x.over() && x.err == nil, nil
}

// state is what a domain is to a plan, and libvirt's word for it.
func (p *Port) state(ctx context.Context, dom remote.Domain) (hypervisor.State, string, error) {
	s, reason, err := p.conn.State(ctx, dom)
	if err != nil {
		return hypervisor.Unknown, "", fmt.Errorf("state of %s on %s: %w", dom.Name, p.conf.Name, err)
	}
	word := fmt.Sprintf("state %d/%d", s, reason)
	if s >= 0 && int(s) < len(words) {
		word = fmt.Sprintf("%s/%d", words[s], reason)
	}
	switch s {
	case remote.StateRunning, remote.StateBlocked:
		return hypervisor.Running, word, nil
	case remote.StatePaused:
		paused, err := p.paused(ctx, dom, reason)
		return paused, word, err
	case remote.StateSuspended:
		return hypervisor.Paused, word, nil
	case remote.StateShuttingDown:
		return hypervisor.Stopped, word, nil
	case remote.StateOff:
		return hypervisor.Absent, word, nil
	case remote.StateCrashed:
		return hypervisor.Failed, word, nil
	}
	return hypervisor.Unknown, word, nil
}

// words are libvirt's for states, by number.
var words = [...]string{
	remote.StateNone: "no state", remote.StateRunning: "running", remote.StateBlocked: "blocked", remote.StatePaused: "paused",
	remote.StateShuttingDown: "in shutdown", remote.StateOff: "shut off", remote.StateCrashed: "crashed", remote.StateSuspended: "pmsuspended",
}

// paused tells apart why a domain stands still.
func (p *Port) paused(ctx context.Context, dom remote.Domain, reason int32) (hypervisor.State, error) {
	switch reason {
	case remote.PausedByIOError, remote.PausedByCrash, remote.PausedPostCopyFailed:
		return hypervisor.Failed, nil
	case remote.PausedWhileStarting:
		return hypervisor.Starting, nil
	case remote.PausedForPostCopy:
		return hypervisor.Moved, nil
	case remote.PausedForMigration:
	default:
		if p.moves.leaving(dom.Name, p.conf.Name) {
			return hypervisor.Moving, nil // suspended for the switch to post-copy
		}
		return hypervisor.Paused, nil
	}
	m, err := p.mark(ctx, dom)
	switch {
	case gone(err):
		return hypervisor.Absent, nil
	case err != nil:
		return hypervisor.Unknown, err
	case m.To == p.conf.Name:
		return hypervisor.Incoming, nil
	case p.moves.leaving(dom.Name, p.conf.Name):
		return hypervisor.Moving, nil
	}
	// A source whose manager is gone is stopped with everything sent. It must not be taken for a paused one.
	return hypervisor.Moved, nil
}

// List implements hypervisor.Host. Domains that are only defined are Stopped.
func (p *Port) List(ctx context.Context) ([]hypervisor.VM, error) {
	doms, err := p.conn.Domains(ctx)
	if err != nil {
		return nil, fmt.Errorf("list VMs of %s: %w", p.conf.Name, err)
	}
	version, err := p.version(ctx)
	if err != nil {
		return nil, err
	}
	var list []hypervisor.VM
	for _, dom := range doms {
		vm, err := p.vm(ctx, dom)
		if gone(err) {
			continue // ended meanwhile
		}
		if err != nil {
			return nil, err
		}
		vm.Hypervisor = version
		list = append(list, vm)
	}
	slices.SortFunc(list, func(a, b hypervisor.VM) int { return cmp.Compare(a.Name, b.Name) })
	return list, nil
}

func (p *Port) version(ctx context.Context) (string, error) {
	n, err := p.conn.Version(ctx)
	if err != nil {
		return "", fmt.Errorf("version of the hypervisor of %s: %w", p.conf.Name, err)
	}
	return fmt.Sprintf("QEMU %d.%d.%d (libvirt)", n/1e6, n/1e3%1e3, n%1e3), nil
}

func (p *Port) vm(ctx context.Context, dom remote.Domain) (hypervisor.VM, error) {
	vm := hypervisor.VM{Name: dom.Name, UUID: uuid(dom), State: hypervisor.Stopped}
	text, err := p.conn.XML(ctx, dom, 0)
	if err != nil {
		return vm, err
	}
	if dom.ID >= 0 {
		if vm.State, vm.Detail, err = p.state(ctx, dom); err != nil {
			return vm, err
		}
		if vm.State == hypervisor.Absent {
			vm.State = hypervisor.Stopped
		}
	}
	doc, err := domxml.Parse(text)
	if err != nil {
		return vm, fmt.Errorf("describe %s on %s: %w", dom.Name, p.conf.Name, err)
	}
	// A VM that no move can be made of is shown all the same.
	s := domxml.Summary(doc)
	vm.VCPUs, vm.MaxVCPUs, vm.Memory = s.VCPUs, s.MaxVCPUs, s.Memory
	for _, d := range s.Devices {
		vm.Devices = append(vm.Devices, hypervisor.Device{ID: d.ID, Model: d.Model, Kind: kindOf(d.Element), Backing: d.Backing})
	}
	return vm, nil
}

// kindOf sorts devices by their elements.
func kindOf(element string) hypervisor.DeviceKind {
	switch element {
	case "interface":
		return hypervisor.NIC
	case "disk":
		return hypervisor.Disk
	case "memory":
		return hypervisor.DIMM
	}
	return hypervisor.Other
}

func uuid(dom remote.Domain) string {
	h := hex.EncodeToString(dom.UUID[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}
