// Package hypervisortest starts real hypervisors for tests.
package hypervisortest

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"testing"
	"time"
)

// QEMU is a paused QEMU under TCG with a monitor on a unix socket.
type QEMU struct {
	cmd    *exec.Cmd
	output bytes.Buffer
}

// StartQEMU starts one with little of everything: 32 MiB, one of two vCPUs, a NIC "n0", a disk "d0"
// and one without an id. Its guest never runs unless told to. It is killed with the test.
func StartQEMU(t *testing.T, socket string, args ...string) *QEMU {
	t.Helper()
	// A killed QEMU leaves its socket, which would look like a new one.
	if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	q := &QEMU{}
	q.cmd = exec.Command("qemu-system-x86_64", append([]string{
		"-accel", "tcg", "-machine", "pc", "-m", "32", "-smp", "1,maxcpus=2", "-S", "-nodefaults", "-no-user-config", "-display", "none",
		"-qmp", "unix:" + socket + ",server=on,wait=off",
		"-device", "virtio-net-pci,id=n0", "-blockdev", "driver=null-co,node-name=b0", "-device", "virtio-blk-pci,id=d0,drive=b0",
		"-device", "virtio-rng-pci",
	}, args...)...)
	q.cmd.Stdout, q.cmd.Stderr = &q.output, &q.output
	if err := q.cmd.Start(); err != nil {
		t.Fatalf("start QEMU: %v", err)
	}
	exited := make(chan struct{})
	go func() { _ = q.cmd.Wait(); close(exited) }()
	t.Cleanup(func() {
		q.Kill()
		<-exited
	})
	// QEMU says nowhere that its socket is there.
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(socket); err == nil {
			return q
		}
		select {
		case <-exited:
			t.Fatalf("QEMU ended: %s", q.output.String())
		default:
		}
		if time.Now().After(end) {
			t.Fatal("QEMU made no monitor socket in time")
		}
	}
}

// Kill ends QEMU as a power cut would.
func (q *QEMU) Kill() { _ = q.cmd.Process.Kill() }
