package bench

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of the CPU times in /proc/PID/stat: USER_HZ, 100 on every Linux port that Go has.
const tick = 10 * time.Millisecond

// procStat is what is used of /proc/PID/stat.
type procStat struct {
	parent int
	cpu    time.Duration // user and system
}

// parseStat takes the text of /proc/PID/stat. The name of a process may hold anything, so fields are counted from
// behind its closing parenthesis.
func parseStat(text string) (procStat, error) {
	f := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(f) < 13 {
		return procStat{}, fmt.Errorf("process state %q is too short", text)
	}
	parent, err1 := strconv.Atoi(f[1])
	user, err2 := strconv.ParseInt(f[11], 10, 64)
	system, err3 := strconv.ParseInt(f[12], 10, 64)
	return procStat{parent, time.Duration(user+system) * tick}, errors.Join(err1, err2, err3)
}

// stat reads the state of one process.
func stat(pid int) (procStat, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return procStat{}, err
	}
	return parseStat(string(b))
}

// cpuMark is what a server had used at one time.
type cpuMark struct {
	process time.Duration
	kernel  map[int]time.Duration // by kernel thread
}

// kthreadd is the parent of all kernel threads.
const kthreadd = 2

// markCPU notes what the process and the kernel's threads have used. The latter matter for a server that writes
// through the page cache: what it leaves to the kernel's write-back is done by them. They work for others too, so the
// bench wants a machine of its own; and every measured window ends with a FLUSH, which brings the rest of the
// write-back into the window.
func markCPU(pid int) (cpuMark, error) {
	p, err := stat(pid)
	if err != nil {
		return cpuMark{}, fmt.Errorf("read CPU time of process %d: %w", pid, err)
	}
	m := cpuMark{process: p.cpu, kernel: make(map[int]time.Duration)}
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return m, err
	}
	for _, dir := range dirs {
		id, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		switch p, err := stat(id); {
		case errors.Is(err, fs.ErrNotExist), err != nil && id != pid: // it has ended meanwhile
		case p.parent == kthreadd:
			m.kernel[id] = p.cpu
		}
	}
	return m, nil
}

// since returns what the process and the kernel threads have used from mark to m.
func (m cpuMark) since(mark cpuMark) (process, kernel time.Duration) {
	for id, used := range m.kernel {
		kernel += used - mark.kernel[id] // of a thread that is new: all
	}
	return m.process - mark.process, kernel
}
