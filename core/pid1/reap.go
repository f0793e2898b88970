package pid1

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// defaultGrace is how long a dead child is left to whoever started it.
const defaultGrace = time.Second

// Reaper waits for orphans.
type Reaper struct {
	// Known says which children are waited for by others, however long that takes. Nil
	// knows none; os/exec needs no entry here, since it waits at once.
	Known func(pid int) bool
	// Grace is how long an unknown dead child is left alone; 0 means a second.
	Grace time.Duration
	Log   *slog.Logger
}

// zombie is a dead child by pid and start time: the pid alone may come back.
type zombie struct {
	pid   int
	start uint64
}

// Run reaps until ctx ends.
func (r *Reaper) Run(ctx context.Context) {
	grace := r.Grace
	if grace <= 0 {
		grace = defaultGrace
	}
	child := make(chan os.Signal, 1)
	signal.Notify(child, unix.SIGCHLD)
	defer signal.Stop(child)
	again := time.NewTimer(0) // there may be dead ones from before
	defer again.Stop()
	seen := make(map[zombie]time.Time)
	for {
		select {
		case <-ctx.Done():
			return
		case <-child:
		case <-again.C:
		}
		if !anyDead() {
			clear(seen)
			continue
		}
		if left := r.sweep(seen, time.Now(), grace); left {
			again.Reset(grace)
		}
	}
}

// sweep takes what has been dead for longer than grace and says whether more is waiting.
func (r *Reaper) sweep(seen map[zombie]time.Time, now time.Time, grace time.Duration) bool {
	dead := deadChildren()
	for z := range seen {
		if !dead[z] {
			delete(seen, z)
		}
	}
	left := false
	for z := range dead {
		since, ok := seen[z]
		if !ok {
			since = now
			seen[z] = now
		}
		switch {
		case r.Known != nil && r.Known(z.pid):
		case now.Sub(since) < grace:
			left = true
		default:
			var status unix.WaitStatus
			pid, err := unix.Wait4(z.pid, &status, unix.WNOHANG, nil)
			if err == nil && pid == z.pid && r.Log != nil {
				r.Log.Debug("reaped orphan", "pid", pid, "status", status.ExitStatus())
			}
		}
	}
	return left
}

// anyDead looks for a dead child without taking it.
func anyDead() bool {
	var info unix.Siginfo
	for {
		err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		return err == nil && info.Signo != 0
	}
}

// deadChildren finds this process's zombies in /proc.
func deadChildren() map[zombie]bool {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil
	}
	out := make(map[zombie]bool)
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		data, err := os.ReadFile("/proc/" + name + "/stat")
		if err != nil {
			continue
		}
		if s, ok := parseStat(data); ok && s.state == 'Z' && s.ppid == os.Getpid() {
			out[zombie{pid: pid, start: s.start}] = true
		}
	}
	return out
}

type procStat struct {
	state byte
	ppid  int
	start uint64
}

// parseStat reads /proc/<pid>/stat. The name in it may hold anything, brackets and spaces
// too, but the last bracket is its end.
func parseStat(data []byte) (procStat, bool) {
	end := bytes.LastIndexByte(data, ')')
	if end < 0 {
		return procStat{}, false
	}
	// From field 3 on: state ppid … starttime (22).
	f := bytes.Fields(data[end+1:])
	if len(f) < 20 || len(f[0]) != 1 {
		return procStat{}, false
	}
	ppid, err1 := strconv.Atoi(string(f[1]))
	start, err2 := strconv.ParseUint(string(f[19]), 10, 64)
	if err1 != nil || err2 != nil {
		return procStat{}, false
	}
	return procStat{state: f[0][0], ppid: ppid, start: start}, true
}
