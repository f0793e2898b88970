package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// cgroupRoot is where cgroup v2 is mounted on the appliance and on a modern workstation.
const cgroupRoot = "/sys/fs/cgroup"

// ErrNoCgroup says that there is no writable cgroup v2 here. Plugins run without limits then.
var ErrNoCgroup = errors.New("no writable cgroup v2 hierarchy")

// Limits of one plugin, over all its processes. Zero is no limit.
type Limits struct {
	Memory uint64 // bytes
	PIDs   int
}

// Cgroup is a directory in the cgroup v2 tree.
type Cgroup struct {
	dir string
}

// OpenCgroups makes the parent cgroup of all plugins under the mounted hierarchy root ("" is
// the usual place) and delegates memory and pids to it.
func OpenCgroups(root string) (*Cgroup, error) {
	if root == "" {
		root = cgroupRoot
	}
	have, err := os.ReadFile(filepath.Join(root, "cgroup.controllers"))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoCgroup, err)
	}
	c := &Cgroup{dir: filepath.Join(root, "ratchet")}
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoCgroup, err)
	}
	var enable []string
	for _, name := range strings.Fields(string(have)) {
		if name == "memory" || name == "pids" {
			enable = append(enable, "+"+name)
		}
	}
	for _, dir := range []string{root, c.dir} {
		if err := writeFile(dir, "cgroup.subtree_control", strings.Join(enable, " ")); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNoCgroup, err)
		}
	}
	return c, nil
}

// Plugin makes the cgroup of one plugin with its limits. Its processes go into cgroups
// below it, so that one of them can be killed without the other. Their memory is never
// swapped: no request waits for it to come back.
func (c *Cgroup) Plugin(name string, l Limits) (*Cgroup, error) {
	p := &Cgroup{dir: filepath.Join(c.dir, name)}
	if err := os.MkdirAll(p.dir, 0o755); err != nil {
		return nil, fmt.Errorf("make cgroup %s: %w", name, err)
	}
	memory, pids := "max", "max"
	if l.Memory > 0 {
		memory = strconv.FormatUint(l.Memory, 10)
	}
	if l.PIDs > 0 {
		pids = strconv.Itoa(l.PIDs)
	}
	// A controller that is not there has no file, and then there is nothing to limit.
	for file, value := range map[string]string{"memory.max": memory, "memory.swap.max": "0", "memory.oom.group": "0", "pids.max": pids} {
		if err := writeFile(p.dir, file, value); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("limit cgroup %s: %w", name, err)
		}
	}
	return p, nil
}

// Process makes the cgroup of one process.
func (c *Cgroup) Process(id uint64) (*Cgroup, error) {
	p := &Cgroup{dir: filepath.Join(c.dir, strconv.FormatUint(id, 10))}
	if err := os.Mkdir(p.dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make process cgroup: %w", err)
	}
	return p, nil
}

// Open opens the cgroup for SysProcAttr.CgroupFD: the process is born in it.
func (c *Cgroup) Open() (*os.File, error) {
	f, err := os.Open(c.dir)
	if err != nil {
		return nil, fmt.Errorf("open cgroup: %w", err)
	}
	return f, nil
}

// Kill ends every process in the cgroup, forks included.
func (c *Cgroup) Kill() error {
	if err := writeFile(c.dir, "cgroup.kill", "1"); err != nil {
		return fmt.Errorf("kill cgroup: %w", err)
	}
	return nil
}

// Remove removes the cgroup. The kernel refuses while a killed process is still on its
// way out, so it tries until ctx ends.
func (c *Cgroup) Remove(ctx context.Context) error {
	for {
		err := os.Remove(c.dir)
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("remove cgroup: %w", err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func writeFile(dir, name, value string) error {
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}
