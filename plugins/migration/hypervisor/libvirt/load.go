package libvirt

import (
	"context"
	"fmt"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/model/load"
)

var _ hypervisor.Watched = (*Port)(nil)

// Load implements hypervisor.Watched. What the kernel would give up of its caches counts as available; of them libvirt does not tell what
// is shared memory. It does not count what NICs carry.
func (p *Port) Load(ctx context.Context) (load.Host, error) {
	l, err := p.load(ctx)
	if err != nil {
		return load.Host{}, fmt.Errorf("load of %s: %w", p.conf.Name, err)
	}
	return l, nil
}

func (p *Port) load(ctx context.Context) (l load.Host, err error) {
	node, err := p.conn.Node(ctx)
	if err != nil {
		return l, err
	}
	cpu, err := p.conn.NodeCPU(ctx)
	if err != nil {
		return l, err
	}
	memory, err := p.conn.NodeMemory(ctx)
	if err != nil {
		return l, err
	}
	l.CPUs, l.Busy = node.CPUs, time.Duration(cpu["kernel"]+cpu["user"]+cpu["intr"])
	l.Memory, l.Available = memory["total"]<<10, (memory["free"]+memory["buffers"]+memory["cached"])<<10
	return l, nil
}
