package nettest

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// Namespace is one network namespace, its loopback up.
type Namespace struct {
	t    testing.TB
	file *os.File
}

// New makes a namespace that lasts until the end of the test.
func New(t testing.TB) *Namespace {
	t.Helper()
	f, err := create()
	if err != nil {
		t.Fatalf("new network namespace (tests of the dataplane need root): %v", err)
	}
	n := &Namespace{t: t, file: f}
	t.Cleanup(func() { f.Close() })
	// Addresses are the test's own: duplicate detection would keep IPv6 ones unusable for a second.
	n.Sysctl("net/ipv6/conf/default/accept_dad", "0")
	n.IP("link set lo up")
	return n
}

// create makes a namespace and comes back: a thread that ended would take with it what was started on it with a
// signal for its parent's death.
func create() (*os.File, error) {
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return nil, err
	}
	defer home.Close()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return nil, err
	}
	made, err := os.Open("/proc/thread-self/ns/net")
	if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
		return nil, fmt.Errorf("leave the new namespace: %w", back) // with the thread still locked to the goroutine
	}
	runtime.UnlockOSThread()
	return made, err
}

// FD is a descriptor of the namespace, for setns(2) and netlink's IFLA_NET_NS_FD. It stays the namespace's.
func (n *Namespace) FD() int { return int(n.file.Fd()) }

// Path names the namespace for other programs, ip(8) among them, as long as the test lasts.
func (n *Namespace) Path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.FD()) }

// Run calls f with the goroutine's thread in the namespace. Runs may be nested.
func (n *Namespace) Run(f func()) {
	n.t.Helper()
	leave, err := n.enter()
	if err != nil {
		n.t.Fatalf("enter network namespace: %v", err)
	}
	defer leave()
	f()
}

func (n *Namespace) enter() (leave func(), err error) {
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err == nil {
		err = unix.Setns(n.FD(), unix.CLONE_NEWNET)
	}
	if err != nil {
		home.Close()
		runtime.UnlockOSThread()
		return nil, err
	}
	return func() {
		defer home.Close()
		// A thread that cannot go back stays locked, and so ends with its goroutine.
		if err := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); err != nil {
			n.t.Errorf("leave network namespace: %v", err)
			return
		}
		runtime.UnlockOSThread()
	}, nil
}

// Go runs f on a thread of its own in the namespace. When the test ends, ctx does, and f is waited for; stop
// does both earlier. f must not call t.Fatal.
func (n *Namespace) Go(f func(ctx context.Context)) (stop func()) {
	n.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done, entered := make(chan struct{}), make(chan error)
	go func() {
		defer close(done)
		leave, err := n.enter()
		entered <- err
		if err != nil {
			return
		}
		defer leave()
		f(ctx)
	}()
	if err := <-entered; err != nil {
		cancel()
		n.t.Fatalf("enter network namespace: %v", err)
	}
	stop = sync.OnceFunc(func() { cancel(); <-done })
	n.t.Cleanup(stop)
	return stop
}

// IP runs ip(8) once on the given lines, each a command without the leading "ip".
func (n *Namespace) IP(lines ...string) {
	n.t.Helper()
	n.Run(func() {
		cmd := exec.Command("ip", "-batch", "-")
		cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
		if out, err := cmd.CombinedOutput(); err != nil {
			n.t.Fatalf("ip %s: %v: %s", strings.Join(lines, "; ip "), err, out)
		}
	})
}

// Exec runs a command in the namespace and returns what it printed.
func (n *Namespace) Exec(name string, args ...string) string {
	n.t.Helper()
	var out []byte
	n.Run(func() {
		var err error
		if out, err = exec.Command(name, args...).CombinedOutput(); err != nil {
			n.t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
		}
	})
	return string(out)
}

// Start starts a process in the namespace; it is killed and reaped when the test ends, unless Wait was called.
// A signal at the parent's death (Pdeathsig) is better not asked for: the kernel means the thread that started it.
func (n *Namespace) Start(cmd *exec.Cmd) {
	n.t.Helper()
	n.Run(func() {
		if err := cmd.Start(); err != nil {
			n.t.Fatalf("start %s: %v", cmd.Path, err)
		}
	})
	n.t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
}

// Sysctl writes a kernel parameter of the namespace, named by its path below /proc/sys.
func (n *Namespace) Sysctl(path, value string) {
	n.t.Helper()
	n.Run(func() {
		if err := os.WriteFile(filepath.Join("/proc/sys", path), []byte(value), 0); err != nil {
			n.t.Fatalf("set sysctl: %v", err)
		}
	})
}

// Index is the index of a link of the namespace.
func (n *Namespace) Index(link string) int {
	n.t.Helper()
	return n.Link(link).Index
}

// Link is what the net package knows of a link of the namespace.
func (n *Namespace) Link(name string) *net.Interface {
	n.t.Helper()
	var found *net.Interface
	n.Run(func() {
		var err error
		if found, err = net.InterfaceByName(name); err != nil {
			n.t.Fatalf("find link %s: %v", name, err)
		}
	})
	return found
}
