package lb

import (
	"testing"

	"github.com/cilium/ebpf"
)

// TestVerifies: the kernel of this machine takes the object; the guest's kernel is asked in qemu/systems.
func TestVerifies(t *testing.T) {
	spec, err := Spec()
	if err != nil {
		t.Fatal(err)
	}
	c, err := ebpf.NewCollection(spec)
	if err != nil {
		t.Fatalf("%+v", err)
	}
	c.Close()
}
