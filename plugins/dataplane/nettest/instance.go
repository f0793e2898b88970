package nettest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// InstancePort is where an Instance takes the datagrams of a Stream, each the number in decimal.
	InstancePort = 9000
	instanceKey  = "RATCHET_NETTEST_INSTANCE"
)

// Instance is a process that alone keeps a network namespace, as a container's does: the namespace goes, with the links
// in it, when the process is killed. It receives datagrams at InstancePort of every address it is given.
type Instance struct {
	*Receiver
	on   *Namespace // its host
	cmd  *exec.Cmd
	kill func()
}

// Instance starts one on a host. The test binary is its program: TestMain must begin with BeInstance.
func (n *Namespace) Instance(name string) *Instance {
	n.t.Helper()
	self, err := os.Executable()
	if err != nil {
		n.t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), instanceKey+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	cmd.Stderr = os.Stderr
	if _, err := cmd.StdinPipe(); err != nil { // which ends with this process, and the instance with it
		n.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		n.t.Fatal(err)
	}
	n.Start(cmd)
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		n.t.Fatalf("instance %s did not start: %v", name, lines.Err())
	}
	i := &Instance{Receiver: NewReceiver(name), on: n, cmd: cmd}
	said := make(chan struct{})
	go func() { defer close(said); i.listen(lines) }()
	i.kill = sync.OnceFunc(func() {
		_ = cmd.Process.Kill() // it may have ended
		<-said
		_ = cmd.Wait() // killed is what it is to be
	})
	return i
}

// listen takes what the process says until it ends.
func (i *Instance) listen(lines *bufio.Scanner) {
	for lines.Scan() {
		var seq uint64
		var at int64
		if _, err := fmt.Sscan(lines.Text(), &seq, &at); err == nil {
			i.Got(seq, time.Unix(0, at))
		}
	}
}

// Plug joins the instance to its host by a veth pair; inner is the instance's end, but for On. More lines are for ip(8)
// in the instance.
func (i *Instance) Plug(device string, inner End, more ...string) {
	i.on.t.Helper()
	i.on.IP(
		fmt.Sprintf("link add %s type veth peer name %s%s%s netns /proc/%d/ns/net", device, inner.Name, inner.mac(), inner.mtu(), i.cmd.Process.Pid),
		"link set "+device+" up",
	)
	f, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", i.cmd.Process.Pid))
	if err != nil {
		i.on.t.Fatal(err)
	}
	defer f.Close() // at once: it would keep the namespace
	inner.On = &Namespace{t: i.on.t, file: f}
	inner.On.IP("link set lo up")
	inner.up()
	if len(more) > 0 {
		inner.On.IP(more...)
	}
}

// Kill ends the process. When it returns all that it said of datagrams is known.
func (i *Instance) Kill() { i.kill() }

// BeInstance is the other life of a test binary: it does not return in a process that Instance started, and returns at
// once in any other.
func BeInstance() {
	if os.Getenv(instanceKey) == "" {
		return
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	fmt.Fprintln(os.Stderr, "instance:", receive())
	os.Exit(1)
}

// receive says which datagrams come, each with the kernel's time of its arrival.
func receive() error {
	l := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		e := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1) })
		return errors.Join(e, err)
	}}
	c, err := l.ListenPacket(context.Background(), "udp4", fmt.Sprintf(":%d", InstancePort))
	if err != nil {
		return err
	}
	fmt.Println("ready")
	b, oob := make([]byte, 64), make([]byte, 128)
	for {
		n, m, _, _, err := c.(*net.UDPConn).ReadMsgUDP(b, oob)
		if err != nil {
			return err
		}
		all, err := unix.ParseSocketControlMessage(oob[:m])
		if err != nil || len(all) == 0 {
			return errors.Join(errors.New("datagram without time of arrival"), err)
		}
		at := *(*unix.Timespec)(unsafe.Pointer(&all[0].Data[0]))
		fmt.Println(string(b[:n]), at.Nano())
	}
}
