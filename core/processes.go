package core

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/ratchetos/ratchet/core/api/apipb"
)

// processes lists a process and its descendants, parents first. A process that ends meanwhile
// is left out; what the kernel does not say is left empty.
func processes(root int) []*apipb.Process {
	var out []*apipb.Process
	parents := map[int]int{root: 0}
	for queue := []int{root}; len(queue) > 0; queue = queue[1:] {
		pid := queue[0]
		name, err := argv0(pid)
		if err != nil {
			continue
		}
		out = append(out, &apipb.Process{Name: name, Pid: int32(pid), Parent: int32(parents[pid]), Pss: pss(pid)})
		for _, child := range children(pid) {
			if _, seen := parents[child]; !seen {
				parents[child] = pid
				queue = append(queue, child)
			}
		}
	}
	return out
}

// argv0 is the name a process was started under. All built-in plugins are one executable, so
// the kernel's own short name says nothing.
func argv0(pid int) (string, error) {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return "", err
	}
	first, _, _ := bytes.Cut(line, []byte{0})
	if len(first) == 0 {
		return "", os.ErrProcessDone // a zombie, or a thread of the kernel
	}
	return filepath.Base(string(first)), nil
}

// children of all threads: the kernel files a child under the thread that forked it.
func children(pid int) (pids []int) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return nil
	}
	for _, t := range tasks {
		text, err := os.ReadFile(t)
		if err != nil {
			continue // the thread is gone
		}
		for _, field := range strings.Fields(string(text)) {
			if child, err := strconv.Atoi(field); err == nil {
				pids = append(pids, child)
			}
		}
	}
	return pids
}

// pss is the proportional set size in bytes, 0 when the process is gone or not ours to look at.
func pss(pid int) uint64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0
	}
	return meminfo(string(text), "Pss")
}
