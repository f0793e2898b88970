// Package hypervisortest starts real hypervisors for tests.
package hypervisortest

import (
	"bytes"
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"testing"
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
	// QEMU inherits the socket: whoever connects waits in its queue, and nobody waits for it to appear.
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	listener.SetUnlinkOnClose(false)
	monitor, err := listener.File()
	if err != nil {
		t.Fatal(err)
	}
	q := &QEMU{}
	q.cmd = exec.Command("qemu-system-x86_64", append([]string{
		"-accel", "tcg", "-machine", "pc", "-m", "32", "-smp", "1,maxcpus=2", "-S", "-nodefaults", "-no-user-config", "-display", "none",
		"-chardev", "socket,id=monitor,fd=3,server=on,wait=off", "-mon", "chardev=monitor,mode=control",
		"-device", "virtio-net-pci,id=n0", "-blockdev", "driver=null-co,node-name=b0", "-device", "virtio-blk-pci,id=d0,drive=b0",
		"-device", "virtio-rng-pci",
	}, args...)...)
	q.cmd.ExtraFiles = []*os.File{monitor}
	q.cmd.Stdout, q.cmd.Stderr = &q.output, &q.output
	if err := errors.Join(q.cmd.Start(), monitor.Close(), listener.Close()); err != nil {
		t.Fatalf("start QEMU: %v", err)
	}
	exited := make(chan struct{})
	go func() { _ = q.cmd.Wait(); close(exited) }()
	t.Cleanup(func() {
		q.Kill()
		<-exited
		if t.Failed() {
			t.Logf("QEMU said: %s", q.output.String())
		}
	})
	return q
}

// Kill ends QEMU as a power cut would.
func (q *QEMU) Kill() { _ = q.cmd.Process.Kill() }
