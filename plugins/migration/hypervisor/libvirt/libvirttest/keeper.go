package libvirttest

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// keeperEnv tells a process that it is a keeper.
const keeperEnv = "RATCHET_LIBVIRTTEST_KEEPER"

// Keeper is called first thing by a program that starts daemons: Start runs the program again as the parent of libvirtd and,
// since libvirtd lets go of them, of its QEMUs, and in that process Keeper does not return. A keeper does two things that
// nobody else does: it buries QEMUs at once, which libvirtd waits for in vain where the machine's init is slow, and it
// ends everything when the program is gone, however it ended.
func Keeper() {
	if os.Getenv(keeperEnv) == "" {
		return
	}
	if err := keep(); err != nil {
		fmt.Fprintln(os.Stderr, "keep libvirtd:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// keep starts libvirtd on the sockets it inherited, says its process id on the pipe after them, and closes the pipe when it
// has ended.
func keep() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become the parent of orphans: %w", err)
	}
	// A socket that is handed over must name the process it is for, which is known to itself only.
	cmd := exec.Command("/bin/sh", "-c", `LISTEN_PID=$$ exec libvirtd -f "$XDG_CONFIG_HOME/libvirt/libvirtd.conf"`)
	word := os.NewFile(5, "word")
	syscall.CloseOnExec(5)
	cmd.ExtraFiles = []*os.File{os.NewFile(3, "unix"), os.NewFile(4, "tls")}
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if os.Getuid() == 0 {
		// Post-copy needs userfaultfd, which nobody else than root may use without this.
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Credential: &syscall.Credential{Uid: nobody, Gid: nobody}, AmbientCaps: []uintptr{unix.CAP_SYS_PTRACE},
		}
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	for _, socket := range cmd.ExtraFiles {
		socket.Close() // it is the daemon's alone, and ends with it
	}
	fmt.Fprintln(word, cmd.Process.Pid)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // it ends when the program does
		for killChildren() {
			var info unix.Siginfo
			_ = unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOWAIT, nil)
		}
	}()
	var closed sync.Once
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return nil // there is nobody left
		case pid == cmd.Process.Pid:
			closed.Do(func() { word.Close() })
		}
	}
}

// killChildren ends all children, and tells whether there were any. Those of theirs become ours and are next.
func killChildren() bool {
	found := false
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return false
	}
	for _, t := range threads {
		list, err := os.ReadFile("/proc/self/task/" + t.Name() + "/children")
		if err != nil {
			continue // a thread that has ended
		}
		for _, word := range bytes.Fields(list) {
			if pid, err := strconv.Atoi(string(word)); err == nil {
				found = true
				_ = unix.Kill(pid, unix.SIGKILL)
			}
		}
	}
	return found
}
