package guest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/plugins/migration/agent/wire"
	"github.com/ratchetos/ratchet/plugins/migration/model"
)

// modules is what the kernel has loaded, built in, and on disk.
type modules struct {
	sys     tree
	loaded  map[string]bool
	builtin map[string]bool
	files   map[string][]string // name → its file and those it depends on, as in modules.dep
}

// modules reads depmod's lists. A guest without them has what is loaded and no more.
func (a *Agent) modules() *modules {
	m := &modules{sys: a.sys, loaded: map[string]bool{}, builtin: map[string]bool{}, files: map[string][]string{}}
	for line := range strings.Lines(a.sys.text("proc/modules")) {
		if name, _, ok := strings.Cut(line, " "); ok {
			m.loaded[name] = true
		}
	}
	dir := "lib/modules/" + a.kernel()
	for line := range strings.Lines(a.sys.text(dir, "modules.builtin")) {
		m.builtin[moduleName(line)] = true
	}
	f, err := os.Open(a.sys.path(dir, "modules.dep"))
	if err != nil {
		return m
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		file, deps, ok := strings.Cut(lines.Text(), ":")
		if !ok {
			continue
		}
		list := append([]string{file}, strings.Fields(deps)...)
		for i := range list {
			if !path.IsAbs(list[i]) {
				list[i] = path.Join("/", dir, list[i])
			}
		}
		m.files[moduleName(file)] = list
	}
	return m
}

// moduleName is the kernel's name for a file, as "kernel/drivers/net/virtio-net.ko.xz".
func moduleName(file string) string {
	name, _, _ := strings.Cut(path.Base(strings.TrimSpace(file)), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

// state says how far the kernel is from having all of the named modules.
func (m *modules) state(names []string) (model.CapabilityState, string) {
	var toLoad []string
	for _, n := range names {
		switch {
		case m.loaded[n] || m.builtin[n]:
		case m.files[n] != nil:
			toLoad = append(toLoad, n)
		case m.sys.exists("sys/module", n):
			// Built in: a kernel that was installed without its lists.
		default:
			return model.Missing, "no module " + n
		}
	}
	if len(toLoad) > 0 {
		return model.CanBeGiven, "modules to load: " + strings.Join(toLoad, ", ")
	}
	return model.Ready, ""
}

// augment loads what the named capabilities need. It goes on after a module that cannot be loaded: the answer says which
// capability that leaves missing.
func (a *Agent) augment(_ context.Context, want wire.Capabilities) (wire.Augmented, error) {
	m := a.modules()
	failed := map[string]error{}
	for _, name := range want.Names {
		for _, mod := range modulesOf(name) {
			if err := a.loadAll(m, mod); err != nil && failed[name] == nil {
				failed[name] = err
			}
		}
	}
	m = a.modules()
	out := wire.Augmented{Capabilities: []model.Capability{}}
	for _, name := range want.Names {
		c := a.capability(name, m)
		if err := failed[name]; err != nil && c.State != model.Ready {
			c.State, c.Detail = model.Missing, err.Error()
		}
		out.Capabilities = append(out.Capabilities, c)
	}
	return out, nil
}

// loadAll loads a module after what it depends on: modules.dep lists that with the first to load last.
func (a *Agent) loadAll(m *modules, name string) error {
	if m.loaded[name] || m.builtin[name] {
		return nil
	}
	for _, file := range slices.Backward(m.files[name]) {
		dep := moduleName(file)
		if m.loaded[dep] || m.builtin[dep] {
			continue
		}
		if err := a.load(a.sys.path(file)); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("load %s: %w", dep, err)
		}
		m.loaded[dep] = true
	}
	return nil
}

// moduleCompressed is MODULE_INIT_COMPRESSED_FILE of finit_module(2), Linux 5.17.
const moduleCompressed = 4

// loadModule gives a module to the kernel. Kernels that cannot unpack it leave that to modprobe.
func loadModule(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	flags := 0
	if !strings.HasSuffix(file, ".ko") {
		flags = moduleCompressed
	}
	err = unix.FinitModule(int(f.Fd()), "", flags)
	if flags == 0 || err == nil || errors.Is(err, unix.EEXIST) {
		return err
	}
	if out, e := exec.Command("/sbin/modprobe", moduleName(file)).CombinedOutput(); e != nil {
		return errors.Join(err, fmt.Errorf("modprobe: %w: %s", e, strings.TrimSpace(string(out))))
	}
	return nil
}
