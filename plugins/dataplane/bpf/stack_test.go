package bpf

import (
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
)

// frames holds of each function the bytes of stack that it uses, and whom it calls.
type frames struct {
	used  map[string]int
	calls map[string][]string
}

// framesOf reads a linked program, whose functions stand one after the other.
func framesOf(program asm.Instructions) frames {
	f := frames{used: make(map[string]int), calls: make(map[string][]string)}
	function := ""
	for i, ins := range program {
		if btf.FuncMetadata(&ins) != nil {
			function = ins.Symbol()
		}
		below := 0
		switch class := ins.OpCode.Class(); {
		case ins.IsFunctionCall():
			f.calls[function] = append(f.calls[function], ins.Reference())
		case class == asm.LdXClass && ins.Src == asm.R10, (class == asm.StXClass || class == asm.StClass) && ins.Dst == asm.R10:
			below = -int(ins.Offset)
		case ins.OpCode == asm.Add.Op(asm.ImmSource) && i > 0 && program[i-1].OpCode == asm.Mov.Op(asm.RegSource) && program[i-1].Src == asm.R10:
			below = -int(ins.Constant)
		}
		f.used[function] = max(f.used[function], below)
	}
	return f
}

// deepest is the longest chain of calls from function on: its bytes as Linux 6.1 counts them, and who is in it.
func (f frames) deepest(function string) (int, []string) {
	var sum int
	var chain []string
	for _, callee := range f.calls[function] {
		if s, c := f.deepest(callee); s > sum {
			sum, chain = s, c
		}
	}
	return sum + (max(f.used[function], 1)+31)/32*32, append([]string{function}, chain...)
}

// TestStack: every chain of calls fits into the stack of Linux 6.1, whose verifier rounds each function to 32 bytes and
// allows 512 to all that are open at once (check_max_stack_depth in kernel/bpf/verifier.c). Newer kernels round to 16:
// what loads on a developer's machine may be refused on the appliance.
func TestStack(t *testing.T) {
	const limit = 512
	programs := 0
	err := filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_bpfel.o") {
			return err
		}
		spec, err := ebpf.LoadCollectionSpec(path)
		if err != nil {
			return err
		}
		for name, p := range spec.Programs {
			programs++
			if sum, chain := framesOf(p.Instructions).deepest(name); sum > limit {
				t.Errorf("%s: %d bytes of stack, %d allowed: %s", path, sum, limit, strings.Join(chain, " > "))
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if programs == 0 {
		t.Error("no program found")
	}
}
