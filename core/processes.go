package core

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/ratchetos/ratchet/core/api/apipb"
	"github.com/ratchetos/ratchet/core/memory"
)

// processes lists a process and its descendants, parents first. A process that ends meanwhile
// is left out; what the kernel does not say is left empty.
func processes(root int) []*apipb.Process {
	var out []*apipb.Process
	parents, started := map[int]int{root: 0}, children()
	for queue := []int{root}; len(queue) > 0; queue = queue[1:] {
		pid := queue[0]
		name, err := argv0(pid)
		if err != nil {
			continue
		}
		out = append(out, &apipb.Process{Name: name, Pid: int32(pid), Parent: int32(parents[pid]), Pss: pss(pid)})
		for _, child := range started[pid] {
			if _, seen := parents[child]; !seen {
				parents[child] = pid
				queue = append(queue, child)
			}
		}
	}
	return out
}

// argv0 is the name a process was started under. The kernel's own short name is cut after 15 characters, and says nothing
// before a plugin has set it: all built-in ones are one executable.
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

// children maps each process to those it started. It reads every process's own word: the kernel's lists of children
// (/proc/PID/task/TID/children) are documented to miss some while threads come and go.
func children() map[int][]int {
	all := make(map[int][]int)
	// Not with a pattern: that would list each process's folder too, and the kernel keeps what it has listed in memory.
	dirs, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	for _, dir := range dirs {
		pid, err := strconv.Atoi(dir.Name())
		if err != nil {
			continue
		}
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue // it is gone
		}
		// The name in parentheses may hold anything: what counts is behind the last of them.
		_, rest, ok := cutLast(string(text), ") ")
		if fields := strings.Fields(rest); ok && len(fields) > 1 {
			if parent, err := strconv.Atoi(fields[1]); err == nil {
				all[parent] = append(all[parent], pid)
			}
		}
	}
	return all
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// pss is the proportional set size in bytes, 0 when the process is gone or not ours to look at.
func pss(pid int) uint64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0
	}
	return memory.Field(string(text), "Pss")
}
