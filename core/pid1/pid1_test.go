package pid1

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// TestMain lets the test binary be process 1 of a pid namespace of its own.
func TestMain(m *testing.M) {
	roles := map[string]func() error{
		"reap": reapRole, "finish": finishRole, "setup": setupRole,
		"guard": guardRole(0), "guard alone": guardRole(time.Millisecond),
		"child": func() error { os.Exit(7); return nil },
		// orphan leaves a child behind that outlives it.
		"orphan": func() error { return role("sleeper").Start() },
		// sleeper lives until it is killed, or long enough to be adopted.
		"sleeper": func() error { time.Sleep(50 * time.Millisecond); return nil },
		"stubborn": func() error {
			select {}
		},
	}
	if run := roles[os.Getenv("PID1_ROLE")]; run != nil {
		if err := run(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func role(name string) *exec.Cmd {
	c := exec.Command("/proc/self/exe")
	c.Env = append(os.Environ(), "PID1_ROLE="+name)
	return c
}

// asPID1 runs a role as process 1 of new pid, mount and network namespaces.
func asPID1(t *testing.T, name string) (*exec.Cmd, *strings.Builder) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	t.Cleanup(cancel)
	c := exec.CommandContext(ctx, "/proc/self/exe")
	c.Env = append(os.Environ(), "PID1_ROLE="+name)
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWNET}
	out := new(strings.Builder)
	c.Stdout, c.Stderr = out, out
	return c, out
}

// private gives a role its own view of /proc.
func private() error {
	if err := unshareMounts(); err != nil {
		return err
	}
	return unix.Mount("proc", "/proc", "proc", 0, "")
}

// unshareMounts keeps what a role mounts from reaching the machine. In a chroot "/" is no mount point, and each of
// those that can be seen is unshared by itself.
func unshareMounts() error {
	err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	if !errors.Is(err, unix.EINVAL) {
		return err
	}
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(info)) {
		if point := strings.Fields(line)[4]; point != "/" {
			if err := unix.Mount("", point, "", unix.MS_PRIVATE, ""); err != nil {
				return fmt.Errorf("unshare %s: %w", point, err)
			}
		}
	}
	return nil
}

// TestReap is the trap of research 2.2(7): the statuses of os/exec children must come
// through, all of them, while orphans are taken.
func TestReap(t *testing.T) {
	c, out := asPID1(t, "reap")
	if err := c.Run(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

func reapRole() error {
	if err := private(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	r := &Reaper{Grace: 100 * time.Millisecond}
	go r.Run(ctx)
	for i := range 12 {
		if err := role("orphan").Run(); err != nil {
			return fmt.Errorf("orphan %d: %w", i, err)
		}
		var exit *exec.ExitError
		if err := role("child").Run(); !errors.As(err, &exit) || exit.ExitCode() != 7 {
			return fmt.Errorf("child %d: its status was stolen: %w", i, err)
		}
	}
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(poll) {
		n, err := children()
		if err != nil || n == 0 {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d orphans were never reaped", n)
		}
	}
}

// children counts the processes of the namespace but this one.
func children() (int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0, err
	}
	n := -1
	for _, e := range entries {
		if strings.Trim(e.Name(), "0123456789") == "" {
			n++
		}
	}
	return n, nil
}

func TestKnownIsNotReaped(t *testing.T) {
	c := role("child")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	r := &Reaper{Known: func(pid int) bool { return pid == c.Process.Pid }}
	seen := make(map[zombie]time.Time)
	// Wait for its death and leave it a zombie.
	if err := unix.Waitid(unix.P_PID, c.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	r.sweep(seen, time.Now(), time.Millisecond)
	r.sweep(seen, time.Now().Add(time.Hour), time.Millisecond)
	var exit *exec.ExitError
	if err := c.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 7 {
		t.Errorf("status was stolen: %v", err)
	}
}

// TestFinish: in a pid namespace reboot(2) ends process 1, with SIGINT for power off and
// SIGHUP for reboot, see reboot(2).
func TestFinish(t *testing.T) {
	c, out := asPID1(t, "finish")
	err := c.Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		t.Fatalf("%v: %s", err, out)
	}
	ws, ok := exit.Sys().(syscall.WaitStatus)
	if !ok || ws.Signal() != syscall.SIGINT {
		t.Errorf("ended by %v, want %v: %s", ws.Signal(), syscall.SIGINT, out)
	}
	if !strings.Contains(out.String(), "the end") {
		t.Errorf("output: %s", out)
	}
}

func finishRole() error {
	if err := private(); err != nil {
		return err
	}
	if err := role("stubborn").Start(); err != nil {
		return err
	}
	Finish(PowerOff, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	return errors.New("finish returned")
}

// TestGuard: core panics, and the box lives on until ctrl-alt-del, or until it restarts by itself.
func TestGuard(t *testing.T) {
	t.Run("asked", func(t *testing.T) { guard(t, "guard", "the box stays up") })
	t.Run("alone", func(t *testing.T) { guard(t, "guard alone", "nobody is waited for") })
}

// guard runs a role that panics, asks for a restart at a line, and expects the restart.
func guard(t *testing.T, name, line string) {
	t.Helper()
	c, out := asPID1(t, name)
	c.Stderr = nil
	stderr, err := c.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	for s := bufio.NewScanner(stderr); s.Scan(); {
		out.WriteString(s.Text() + "\n")
		if strings.Contains(s.Text(), line) {
			if err := c.Process.Signal(unix.SIGINT); err != nil {
				t.Error(err)
			}
		}
	}
	err = c.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		t.Fatalf("%v: %s", err, out)
	}
	if ws, ok := exit.Sys().(syscall.WaitStatus); !ok || ws.Signal() != syscall.SIGHUP {
		t.Errorf("ended by %v, want a reboot: %s", exit, out)
	}
	if !strings.Contains(out.String(), "panic: told to") {
		t.Errorf("output: %s", out)
	}
}

func guardRole(restart time.Duration) func() error {
	return func() error {
		if err := private(); err != nil {
			return err
		}
		Guard(slog.New(slog.DiscardHandler), restart, func() int { panic("told to") })
		return errors.New("guard returned")
	}
}

func TestSetup(t *testing.T) {
	c, out := asPID1(t, "setup")
	if err := c.Run(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

func setupRole() error {
	if err := unshareMounts(); err != nil {
		return err
	}
	if err := unix.Mount("none", "/tmp", "tmpfs", 0, ""); err != nil { // there already
		return err
	}
	if err := os.WriteFile("/tmp/mark", nil, 0o600); err != nil {
		return err
	}
	// A pid namespace has no ctrl-alt-del; everything else must work.
	if err := Setup(); err != nil && (strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), "ctrl-alt-del")) {
		return err
	}
	if _, err := os.Stat("/tmp/mark"); err != nil {
		return fmt.Errorf("mounted over what was there: %w", err)
	}
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil || l.Cur != l.Max {
		return fmt.Errorf("open files %d, %w", l.Cur, err)
	}
	l2, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	defer l2.Close()
	c, err := net.DialTimeout("tcp", l2.Addr().String(), time.Second)
	if err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	return c.Close()
}

func TestParse(t *testing.T) {
	stat := "12 (a) b (c) Z 1 12 12 0 -1 4 0 0 0 0 0 0 0 0 20 0 1 0 4711 0 0"
	s, ok := parseStat([]byte(stat))
	if !ok || s.state != 'Z' || s.ppid != 1 || s.start != 4711 {
		t.Errorf("stat: %+v, %v", s, ok)
	}
	for _, bad := range []string{"", "1 (x", "1 (x) Z", "1 (x) Z a b"} {
		if _, ok := parseStat([]byte(bad)); ok {
			t.Errorf("parse %q works", bad)
		}
	}
	info := `22 1 0:21 / /proc rw shared:5 - proc proc rw
40 1 254:1 / /state rw - ext4 /dev/vda4 rw
41 40 254:2 / /state/a\040b rw shared:1 - ext4 /dev/vda5 rw
broken`
	if d := cmp.Diff([]string{"/state", "/state/a b"}, deviceMounts([]byte(info))); d != "" {
		t.Error(d)
	}
}

// TestWithin: a disk that does not take what is written keeps the machine from nothing.
func TestWithin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said strings.Builder
		log := slog.New(slog.NewTextHandler(&said, nil))
		done := false
		within(time.Minute, log, "sync", func() { done = true })
		if !done || said.Len() > 0 {
			t.Errorf("what ends: done %v, %s", done, &said)
		}
		dead := make(chan struct{})
		begin := time.Now()
		within(time.Minute, log, "sync", func() { <-dead })
		if took := time.Since(begin); took != time.Minute || !strings.Contains(said.String(), "step=sync") {
			t.Errorf("what does not end: after %s, %s", took, &said)
		}
		close(dead)
	})
}
