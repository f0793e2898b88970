package bpf

import (
	"fmt"
	"runtime"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Run is one run of a program on a packet, by BPF_PROG_TEST_RUN. The kernel's own interface is used, so what
// runs is the verified and compiled program, not a model of it.
type Run struct {
	Packet []byte
	// Repeat runs it again on the same buffer: a program that changes the packet sees its own output.
	Repeat int
	// CPU pins the run; with Pin false the thread's own affinity holds.
	CPU int
	Pin bool
	// Context is a struct xdp_md or __sk_buff; nil is the kernel's default.
	Context any
}

// Result is what came of it.
type Result struct {
	Verdict uint32
	Packet  []byte
	PerRun  time.Duration // mean of Repeat runs, as the kernel measured it
}

// headroom is what a program may add to a packet: outer headers.
const headroom = 256

// TestRun runs prog once, or Repeat times.
func TestRun(prog *ebpf.Program, r Run) (Result, error) {
	if r.Pin {
		restore, err := onCPU(r.CPU)
		if err != nil {
			return Result{}, err
		}
		defer restore()
	}
	if r.Repeat > 1 {
		verdict, each, err := prog.Benchmark(r.Packet, r.Repeat, nil)
		return Result{Verdict: verdict, PerRun: each}, err
	}
	o := ebpf.RunOptions{Data: r.Packet, DataOut: make([]byte, len(r.Packet)+headroom), Context: r.Context}
	verdict, err := prog.Run(&o)
	return Result{Verdict: verdict, Packet: o.DataOut}, err
}

// onCPU pins the calling goroutine's thread and returns how to undo it.
func onCPU(cpu int) (restore func(), err error) {
	runtime.LockOSThread()
	var before, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		runtime.UnlockOSThread()
		return nil, fmt.Errorf("read affinity: %w", err)
	}
	one.Set(cpu)
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		runtime.UnlockOSThread()
		return nil, fmt.Errorf("pin to CPU %d: %w", cpu, err)
	}
	return func() {
		_ = unix.SchedSetaffinity(0, &before)
		runtime.UnlockOSThread()
	}, nil
}
