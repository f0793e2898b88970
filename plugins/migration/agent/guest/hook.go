package guest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/agent/wire"
	"github.com/ratchetos/ratchet/plugins/migration/model"
)

const (
	// hookDir has the programs that a plan may run. The guest's owner decides what is in it; the manager only names one.
	hookDir = "etc/ratchet-guest-agent/hooks"
	// maxHookName bounds a name, maxHooks the number reported, maxHookOutput what is kept of its output.
	maxHookName   = 32
	maxHooks      = 64
	maxHookOutput = 4 << 10
)

// hook runs a program of the guest's owner: without a shell, without arguments, as long as the order may take.
func (a *Agent) hook(ctx context.Context, h wire.Hook) (nothing, error) {
	path, err := a.hookPath(h.Name)
	if err != nil {
		return nothing{}, err
	}
	cmd := exec.CommandContext(ctx, path)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.Dir = "/"
	var out limited
	cmd.Stdout, cmd.Stderr = &out, &out
	// What it has started ends with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	err = cmd.Run()
	if ctx.Err() != nil {
		return nothing{}, &wire.Error{Code: wire.NotReached, Text: fmt.Sprintf("hook %s did not end in time", h.Name)}
	}
	if err != nil {
		return nothing{}, fmt.Errorf("hook %s: %w: %s", h.Name, err, strings.TrimSpace(out.String()))
	}
	return nothing{}, nil
}

// hookPath checks that a hook is nobody's but root's.
func (a *Agent) hookPath(name string) (string, error) {
	if !hookName(name) {
		return "", &wire.Error{Code: wire.BadRequest, Text: fmt.Sprintf("hook %q: want up to %d of a-z, 0-9 and -", name, maxHookName)}
	}
	path := a.sys.path(hookDir, name)
	for _, p := range []string{a.sys.path(hookDir), path} {
		info, err := os.Lstat(p)
		if err != nil {
			return "", &wire.Error{Code: wire.NoDevice, Text: fmt.Sprintf("hook %s: %v", name, err)}
		}
		owner, ok := info.Sys().(*syscall.Stat_t)
		if !ok || owner.Uid != 0 || info.Mode().Perm()&0o022 != 0 {
			return "", &wire.Error{Code: wire.Refused, Text: fmt.Sprintf("hook %s: %s must be root's, and writable by nobody else", name, p)}
		}
		if p == path && (!info.Mode().IsRegular() || info.Mode().Perm()&0o100 == 0) {
			return "", &wire.Error{Code: wire.Refused, Text: fmt.Sprintf("hook %s: %s is no program", name, p)}
		}
	}
	return path, nil
}

func hookName(name string) bool {
	return name != "" && len(name) <= maxHookName && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// hooks are those that would be run, as capabilities.
func (a *Agent) hooks() []model.Capability {
	var out []model.Capability
	for _, name := range a.sys.names(hookDir) {
		if _, err := a.hookPath(name); err == nil && len(out) < maxHooks {
			out = append(out, model.Capability{Name: model.CanHook + name, State: model.Ready})
		}
	}
	return out
}

// limited keeps the first part of what is written.
type limited struct{ bytes.Buffer }

func (l *limited) Write(b []byte) (int, error) {
	keep := min(len(b), maxHookOutput-l.Len())
	if _, err := l.Buffer.Write(b[:keep]); err != nil {
		return 0, errors.New("keep output")
	}
	return len(b), nil
}
