package bpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"

	"github.com/cilium/ebpf"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Where our filters stand among those of an interface. An operator's own filters have other priorities.
const filterPriority = 4242

// Of linux/pkt_sched.h and linux/pkt_cls.h.
const (
	clsactHandle = 0xffff0000
	hookIngress  = 0xfffffff2 // TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS)
	hookEgress   = 0xfffffff3 // TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_EGRESS)
	clsactParent = 0xfffffff1 // TC_H_CLSACT

	attrKind     = 1 // TCA_KIND
	attrOptions  = 2 // TCA_OPTIONS
	bpfFD        = 6 // TCA_BPF_FD
	bpfName      = 7 // TCA_BPF_NAME
	bpfFlags     = 8 // TCA_BPF_FLAGS
	directAction = 1 // TCA_BPF_FLAG_ACT_DIRECT: the program's verdict is the action

	allProtocols = 0x0300 // ETH_P_ALL, big endian
)

// filter is a program in a clsact qdisc, for kernels before 6.6, which have no TCX. The few messages it takes are
// written here: a library of all of traffic control would be larger than the rest of this package.
type filter struct {
	ifindex uint32
	egress  bool
	// name is the program's. Two programs of ours on one hook are two filters; a newer version of a program is not.
	name string
}

// replace puts prog in, in one step if an older one is there. The qdisc is made if it is missing and never
// removed: others may have filters in it.
func (f *filter) replace(prog *ebpf.Program) error {
	c, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return fmt.Errorf("open rtnetlink: %w", err)
	}
	defer func() { _ = c.Close() }()
	qdisc := netlink.NewAttributeEncoder()
	qdisc.String(attrKind, "clsact")
	err = request(c, unix.RTM_NEWQDISC, netlink.Create|netlink.Excl, header(f.ifindex, clsactHandle, clsactParent, 0), qdisc)
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("add clsact: %w", err)
	}
	a := netlink.NewAttributeEncoder()
	a.String(attrKind, "bpf")
	a.Nested(attrOptions, func(o *netlink.AttributeEncoder) error {
		o.Uint32(bpfFD, uint32(prog.FD()))
		o.String(bpfName, "ratchet:"+f.name)
		o.Uint32(bpfFlags, directAction)
		return nil
	})
	if err := request(c, unix.RTM_NEWTFILTER, netlink.Create|netlink.Replace, f.header(), a); err != nil {
		return fmt.Errorf("replace filter: %w", err)
	}
	return nil
}

func (f *filter) remove() error {
	c, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return fmt.Errorf("open rtnetlink: %w", err)
	}
	defer func() { _ = c.Close() }()
	a := netlink.NewAttributeEncoder()
	a.String(attrKind, "bpf")
	err = request(c, unix.RTM_DELTFILTER, 0, f.header(), a)
	if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("delete filter: %w", err)
	}
	return nil
}

func (f *filter) header() []byte {
	parent := uint32(hookIngress)
	if f.egress {
		parent = hookEgress
	}
	handle := fnv.New32a()
	_, _ = handle.Write([]byte(f.name))
	return header(f.ifindex, handle.Sum32()|1, parent, filterPriority<<16|allProtocols)
}

// header is struct tcmsg of linux/rtnetlink.h.
func header(ifindex, handle, parent, info uint32) []byte {
	b := make([]byte, 4, 20) // family and padding
	for _, v := range []uint32{ifindex, handle, parent, info} {
		b = binary.NativeEndian.AppendUint32(b, v)
	}
	return b
}

// request sends one message and waits until the kernel has done it.
func request(c *netlink.Conn, kind netlink.HeaderType, flags netlink.HeaderFlags, header []byte, a *netlink.AttributeEncoder) error {
	attributes, err := a.Encode()
	if err != nil {
		return err
	}
	_, err = c.Execute(netlink.Message{
		Header: netlink.Header{Type: kind, Flags: netlink.Request | netlink.Acknowledge | flags},
		Data:   append(header, attributes...),
	})
	return err
}
