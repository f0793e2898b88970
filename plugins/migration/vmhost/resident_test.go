package vmhost

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/plugins/migration/model"
)

// TestResident: of a VM's memory what was written counts, and neither what was only cleared nor other memory of the process.
func TestResident(t *testing.T) {
	const mib, boot, dimm, other = 1 << 20, 60<<20 - 5*4096, 26<<20 + 3*4096, 34 << 20 // not those of arenas of Go's heap
	m := make(map[int][]byte)
	for _, size := range []int{boot, dimm, other} {
		// Fenced on both sides: the kernel makes one mapping of neighbours.
		b, err := unix.Mmap(-1, 0, mib+size+mib, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Munmap(b) })
		m[size] = b[mib : mib+size]
		if err := unix.Mprotect(m[size], unix.PROT_READ|unix.PROT_WRITE); err != nil {
			t.Fatal(err)
		}
	}
	write := func(b []byte, with byte) {
		for i := 0; i < len(b); i += 64 {
			b[i] = with
		}
	}
	write(m[boot][:20*mib], 1)
	write(m[boot][20*mib:40*mib], 0)
	write(m[dimm][:10*mib], 1)
	write(m[other], 1)
	for i := 45 * mib; i < boot; i += 4096 { // only read
		if m[boot][i] != 0 {
			t.Fatal("memory is not zero")
		}
	}
	p, err := openProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	memory := model.Memory{Boot: boot, DIMMs: []model.DIMM{{ID: "dimm0", Size: dimm}}}
	got := p.resident(memory)
	if got < 25*mib || got > 35*mib {
		t.Errorf("%d MiB, 30 were written", got/mib)
	}
	if got := p.resident(model.Memory{Boot: boot + 1}); got != 0 {
		t.Errorf("%d bytes of memory that is not there", got)
	}
	// Looking at it has touched no more of it.
	if again := mappings(read(t, p.proc("smaps")), memory); len(again) != 2 || again[0].present+again[1].present != 50*mib {
		t.Errorf("afterwards: %+v", again)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
