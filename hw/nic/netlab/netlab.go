// Package netlab gives tests of what uses a network interface one that is their own: a cable between two namespaces.
package netlab

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Alone runs a test in a process with network and host name of its own, and says whether this
// is that process:
//
//	if !netlab.Alone(t) {
//		return
//	}
func Alone(t *testing.T) bool {
	t.Helper()
	const key = "RATCHET_TEST_ALONE"
	if os.Getenv(key) == t.Name() {
		return true
	}
	t.Parallel() // the namespaces keep them apart
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), key+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWUTS}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	return false
}

// Lab is a client's link c0 in this namespace and a server's end s0 in another.
type Lab struct {
	t      *testing.T
	server chan func() // run on a thread that is in the server's namespace
}

// New joins both; it belongs into a test that is Alone.
func New(t *testing.T) *Lab {
	t.Helper()
	l := &Lab{t: t, server: make(chan func())}
	started := make(chan int)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Errorf("new network namespace: %v", err)
		}
		started <- unix.Gettid()
		for f := range l.server {
			f()
		}
	}()
	tid := <-started
	t.Cleanup(func() { close(l.server) })
	Run(t, "ip link add c0 type veth peer name s0")
	Run(t, fmt.Sprintf("ip link set s0 netns %d", tid))
	l.There("ip link set lo up")
	l.There("ip addr add 10.7.0.1/24 dev s0")
	l.There("ip link set s0 up")
	return l
}

// On runs f on the server's side and waits for it.
func (l *Lab) On(f func()) {
	done := make(chan struct{})
	l.server <- func() { defer close(done); f() }
	<-done
}

// There runs a command on the server's side.
func (l *Lab) There(command string) { l.On(func() { Run(l.t, command) }) }

// Run runs a command in this namespace and returns what it says.
func Run(t *testing.T, command string) string {
	t.Helper()
	fields := strings.Fields(command)
	out, err := exec.Command(fields[0], fields[1:]...).CombinedOutput()
	if err != nil {
		t.Errorf("%s: %v: %s", command, err, out)
	}
	return string(out)
}
