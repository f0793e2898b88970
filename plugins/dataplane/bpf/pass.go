package bpf

import (
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// AttachPass puts a program on an interface that lets everything pass. The end of a veth pair whose peer sends with
// XDP_TX needs one: without XDP of its own the driver drops what comes that way.
func AttachPass(ifindex int) (*Attachment, error) {
	const xdpPass = 2
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "pass", Type: ebpf.XDP, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, xdpPass), asm.Return()},
	})
	if err != nil {
		return nil, fmt.Errorf("load program: %w", err)
	}
	defer prog.Close() // the link holds it
	return AttachXDP(nil, prog, ifindex)
}
