package remote

import (
	"context"
	"fmt"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/libvirt/rpc"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/libvirt/xdr"
)

// Stream is a connection to something at the daemon.
type Stream = rpc.Stream

// Node is the machine of a daemon.
type Node struct {
	CPUs   int
	Memory uint64 // bytes
}

// modelLength is the fixed length of the CPU's name in the answer, of which each character takes four bytes.
const modelLength = 32

// Node asks what the machine has.
func (c *Conn) Node(ctx context.Context) (n Node, err error) {
	err = c.do(ctx, nodeGetInfo, nil, func(d *xdr.Decoder) {
		for range modelLength {
			d.Int32()
		}
		n.Memory = d.Uint64() << 10
		n.CPUs = int(d.Int32())
		for range 5 { // MHz, NUMA nodes, sockets, cores, threads
			d.Int32()
		}
	})
	return n, err
}

// FreeMemory is in bytes, without caches that the kernel would give up.
func (c *Conn) FreeMemory(ctx context.Context) (n uint64, err error) {
	err = c.do(ctx, nodeGetFreeMemory, nil, func(d *xdr.Decoder) { n = d.Uint64() })
	return n, err
}

// maxStats bounds the counters of a node: REMOTE_NODE_CPU_STATS_MAX and REMOTE_NODE_MEMORY_STATS_MAX.
const maxStats = 16

// NodeCPU is how long all processors together have been in each state since the machine began, in nanoseconds: "kernel", "user", "idle",
// "iowait", "intr".
func (c *Conn) NodeCPU(ctx context.Context) (map[string]uint64, error) {
	const all = -1
	return c.stats(ctx, nodeGetCPUStats, func(e *xdr.Encoder, n int32) { e.Int32(all); e.Int32(n); e.Uint32(0) })
}

// NodeMemory is "total", "free", "buffers" and "cached" of all the machine's memory, in KiB.
func (c *Conn) NodeMemory(ctx context.Context) (map[string]uint64, error) {
	const all = -1
	return c.stats(ctx, nodeGetMemoryStats, func(e *xdr.Encoder, n int32) { e.Int32(n); e.Int32(all); e.Uint32(0) })
}

// stats asks for the counters of a node: first how many there are, then for as many.
func (c *Conn) stats(ctx context.Context, p procedure, ask func(e *xdr.Encoder, n int32)) (map[string]uint64, error) {
	var n int32
	out := map[string]uint64{}
	for range 2 {
		err := c.do(ctx, p, func(e *xdr.Encoder) { ask(e, n) }, func(d *xdr.Decoder) {
			for range d.Len(maxStats, 4+8) {
				name := d.String(maxName)
				out[name] = d.Uint64()
			}
			n = d.Int32()
		})
		if err != nil {
			return nil, err
		}
		if n < 0 || n > maxStats {
			return nil, fmt.Errorf("the daemon has %d counters, of which at most %d are taken in", n, maxStats)
		}
	}
	return out, nil
}

// Version of the hypervisor, as major·10⁶ + minor·10³ + release.
func (c *Conn) Version(ctx context.Context) (n uint64, err error) {
	err = c.do(ctx, connectGetVersion, nil, func(d *xdr.Decoder) { n = d.Uint64() })
	return n, err
}

// MaxVCPUs bounds one domain, of type "kvm" or "qemu".
func (c *Conn) MaxVCPUs(ctx context.Context, kind string) (n int, err error) {
	err = c.do(ctx, connectGetMaxVCPUs, func(e *xdr.Encoder) { e.Optional(kind) }, func(d *xdr.Decoder) { n = int(d.Int32()) })
	return n, err
}

// Networks lists libvirt's active networks by name. A daemon without the driver for them has none.
func (c *Conn) Networks(ctx context.Context) (names []string, err error) {
	const active = 1 << 1
	err = c.do(ctx, connectListAllNetworks, func(e *xdr.Encoder) { e.Int32(1); e.Uint32(active) }, func(d *xdr.Decoder) {
		for range d.Len(maxDomains, 4+16) {
			var uuid [16]byte
			names = append(names, d.String(maxName))
			d.Fixed(uuid[:])
		}
		d.Uint32()
	})
	if rpc.IsCode(err, rpc.CodeNoSupport) {
		return nil, nil
	}
	return names, err
}

// Capabilities is XML about the machine and its emulators.
func (c *Conn) Capabilities(ctx context.Context) (string, error) {
	return c.text(ctx, connectGetCapabilities, nil)
}

// DomainCapabilities is XML about what a domain may consist of.
func (c *Conn) DomainCapabilities(ctx context.Context, arch, machine, kind string) (string, error) {
	return c.text(ctx, connectGetDomainCaps, func(e *xdr.Encoder) {
		e.Optional("") // the default emulator
		e.Optional(arch)
		e.Optional(machine)
		e.Optional(kind)
		e.Uint32(0)
	})
}

// expandFeatures asks BaselineCPU for the flags that a model's name stands for.
const expandFeatures = 1

// BaselineCPU is the CPU that all of cpus can be, as XML with every flag.
func (c *Conn) BaselineCPU(ctx context.Context, cpus ...string) (string, error) {
	return c.text(ctx, connectBaselineCPU, func(e *xdr.Encoder) {
		e.Uint32(uint32(len(cpus)))
		for _, x := range cpus {
			e.String(x)
		}
		e.Uint32(expandFeatures)
	})
}
