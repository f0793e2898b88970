package bpf

import (
	"errors"
	"fmt"
	"hash/fnv"

	"github.com/cilium/ebpf"
	"github.com/florianl/go-tc"
	"github.com/florianl/go-tc/core"
	"golang.org/x/sys/unix"
)

// Where our filters stand among those of an interface. An operator's own filters have other priorities.
const (
	filterPriority = 4242
	directAction   = 1 // TCA_BPF_FLAG_ACT_DIRECT: the program's verdict is the action
)

// filter is a program in a clsact qdisc, for kernels before 6.6, which have no TCX.
type filter struct {
	ifindex uint32
	egress  bool
	// name is the program's. Two programs of ours on one hook are two filters; a newer version of a program is not.
	name string
}

// replace puts prog in, in one step if an older one is there. The qdisc is made if it is missing and never
// removed: others may have filters in it.
func (f *filter) replace(prog *ebpf.Program) error {
	return f.with(func(c *tc.Tc) error {
		qdisc := tc.Object{
			Msg:       tc.Msg{Family: unix.AF_UNSPEC, Ifindex: f.ifindex, Handle: core.BuildHandle(tc.HandleRoot, 0), Parent: tc.HandleIngress},
			Attribute: tc.Attribute{Kind: "clsact"},
		}
		if err := c.Qdisc().Add(&qdisc); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("add clsact: %w", err)
		}
		o, fd, flags, name := f.object(), uint32(prog.FD()), uint32(directAction), "ratchet:"+f.name
		o.Attribute = tc.Attribute{Kind: "bpf", BPF: &tc.Bpf{FD: &fd, Name: &name, Flags: &flags}}
		if err := c.Filter().Replace(&o); err != nil {
			return fmt.Errorf("replace filter: %w", err)
		}
		return nil
	})
}

func (f *filter) remove() error {
	return f.with(func(c *tc.Tc) error {
		o := f.object()
		o.Kind = "bpf"
		if err := c.Filter().Delete(&o); err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("delete filter: %w", err)
		}
		return nil
	})
}

func (f *filter) object() tc.Object {
	parent := tc.HandleMinIngress
	if f.egress {
		parent = tc.HandleMinEgress
	}
	const allProtocols = 0x0300 // ETH_P_ALL, big endian
	handle := fnv.New32a()
	_, _ = handle.Write([]byte(f.name))
	return tc.Object{Msg: tc.Msg{
		Family: unix.AF_UNSPEC, Ifindex: f.ifindex, Handle: handle.Sum32() | 1,
		Parent: core.BuildHandle(tc.HandleRoot, parent), Info: filterPriority<<16 | allProtocols,
	}}
}

func (f *filter) with(do func(*tc.Tc) error) error {
	c, err := tc.Open(&tc.Config{})
	if err != nil {
		return fmt.Errorf("open rtnetlink: %w", err)
	}
	return errors.Join(do(c), c.Close())
}
