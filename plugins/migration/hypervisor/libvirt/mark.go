package libvirt

import (
	"context"
	"fmt"
	"strconv"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/libvirt/domxml"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/libvirt/remote"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/libvirt/rpc"
)

// The mark is an element of this namespace in a VM's metadata.
const (
	namespace = "https://ratchetos.org/migration/1"
	prefix    = "ratchet"
)

// mark says which move a VM is in, or was in last. It moves with the VM, so that both hosts have it.
type mark struct {
	ID       string
	Epoch    uint64
	From, To string
	// Arrived tells that the move is committed: the VM lives at To.
	Arrived bool
}

func markOf(m hypervisor.Move) mark { return mark{ID: m.ID, Epoch: m.Epoch, From: m.From, To: m.To} }

func (m mark) xml() string {
	n := domxml.New("move", "id", m.ID, "epoch", strconv.FormatUint(m.Epoch, 10), "from", m.From, "to", m.To)
	if m.Arrived {
		n.Set("arrived", "yes")
	}
	return n.String()
}

func parseMark(s string) (mark, error) {
	n, err := domxml.Parse(s)
	if err != nil {
		return mark{}, err
	}
	m := mark{ID: n.Attr("id"), From: n.Attr("from"), To: n.Attr("to"), Arrived: n.Attr("arrived") == "yes"}
	m.Epoch, err = strconv.ParseUint(n.Attr("epoch"), 10, 64)
	return m, err
}

// mark reads a VM's mark; a VM that was never moved has the zero one.
func (p *Port) mark(ctx context.Context, dom remote.Domain) (mark, error) {
	text, err := p.conn.Metadata(ctx, dom, namespace, 0)
	if rpc.IsCode(err, rpc.CodeNoMetadata) {
		return mark{}, nil
	}
	if err != nil {
		return mark{}, fmt.Errorf("read the mark of %s on %s: %w", dom.Name, p.conf.Name, err)
	}
	m, err := parseMark(text)
	if err != nil {
		return m, fmt.Errorf("the mark of %s on %s is not ours (remove the element of %s from its metadata): %w", dom.Name, p.conf.Name, namespace, err)
	}
	return m, nil
}

// setMark marks a VM, also for its next start if it is defined.
func (p *Port) setMark(ctx context.Context, dom remote.Domain, m mark) error {
	flags := uint32(remote.Live)
	persistent, err := p.conn.Persistent(ctx, dom)
	if err == nil {
		if persistent {
			flags |= remote.Config
		}
		err = p.conn.SetMetadata(ctx, dom, m.xml(), prefix, namespace, flags)
	}
	if err != nil {
		return fmt.Errorf("mark %s on %s: %w", dom.Name, p.conf.Name, err)
	}
	return nil
}

// fenced reads a VM's mark and refuses a manager that is older than it.
func (p *Port) fenced(ctx context.Context, dom remote.Domain, m hypervisor.Move) (mark, error) {
	k, err := p.mark(ctx, dom)
	if err == nil && k.Epoch > m.Epoch {
		return k, fmt.Errorf("%s on %s was given orders by epoch %d, this is %d: %w", m.VM, p.conf.Name, k.Epoch, m.Epoch, hypervisor.ErrFenced)
	}
	return k, err
}
