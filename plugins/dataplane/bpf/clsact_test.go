package bpf

import (
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/ratchetos/ratchet/plugins/dataplane/nettest"
)

// Two programs are two filters of one hook, and a newer version of one takes its place alone.
func TestClsactFilters(t *testing.T) {
	n := nettest.New(t)
	n.IP("link add v0 type veth peer name v1")
	load := func(name string) *ebpf.Program {
		p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
			Name: name, Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()},
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { p.Close() })
		return p
	}
	link := uint32(n.Index("v0"))
	count := func() int {
		return strings.Count(n.Exec("tc", "filter", "show", "dev", "v0", "ingress"), "direct-action")
	}
	n.Run(func() {
		first, second := &filter{ifindex: link, name: "first"}, &filter{ifindex: link, name: "second"}
		for _, f := range []*filter{first, second, first} {
			if err := f.replace(load(f.name)); err != nil {
				t.Fatal(err)
			}
		}
		if got := count(); got != 2 {
			t.Errorf("%d filters, want 2", got)
		}
		if err := first.remove(); err != nil {
			t.Fatal(err)
		}
		if got := count(); got != 1 {
			t.Errorf("%d filters after one was removed, want 1", got)
		}
		if err := first.remove(); err != nil {
			t.Errorf("removed again: %v", err)
		}
	})
}
