package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/model"
	"github.com/ratchetos/ratchet/qemu/internal/cache"
)

const (
	// bootLimit bounds the one boot of a shape.
	bootLimit = 2 * time.Minute
	// statesKept bounds the cache: about 80 MB each.
	statesKept = 6
)

var qemuVersion = sync.OnceValues(func() (string, error) {
	out, err := exec.Command("qemu-system-x86_64", "--version").Output()
	if err != nil {
		return "", fmt.Errorf("ask QEMU for its version: %w", err)
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return line, nil
})

// State returns the file with the saved state of a guest of that shape, booting one if there is none yet.
func State(ctx context.Context, i Image, s model.Shape) (string, error) {
	version, err := qemuVersion()
	if err != nil {
		return "", err
	}
	dir, err := cache.Dir("lab")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "state-"+stateKey(s, i.digest, version))
	unlock, err := cache.Lock(path + ".lock") // one boots, the others wait for it
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(path); err == nil {
		now := time.Now()
		return path, os.Chtimes(path, now, now)
	}
	if err := saveState(ctx, s, path); err != nil {
		return "", fmt.Errorf("boot a guest and save its state: %w", err)
	}
	return path, keepNewest(dir, "state-*[0-9a-f]", statesKept)
}

func saveState(ctx context.Context, s model.Shape, path string) error {
	ctx, cancel := context.WithTimeout(ctx, bootLimit)
	defer cancel()
	dir, err := os.MkdirTemp("", "lab-boot-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	tmp := path + ".new"
	// The guest has not used its disks yet: any bytes will do.
	s.Disks = slices.Clone(s.Disks)
	for i, d := range s.Disks {
		s.Disks[i].Source = model.Source{Local: filepath.Join(dir, d.ID)}
		if err := os.WriteFile(s.Disks[i].Source.Local, nil, 0o644); err != nil {
			return err
		}
		if err := os.Truncate(s.Disks[i].Source.Local, int64(d.Size)); err != nil {
			return err
		}
	}
	m, err := startMachine(ctx, filepath.Join(dir, "boot"), s, machineOptions{})
	if err != nil {
		return err
	}
	defer m.Close()
	if _, err := m.Agent.Ping(ctx); err != nil {
		return fmt.Errorf("%w; the console's end: %s", err, tail(m.Console(), 20))
	}
	m.Agent.Close()
	if err := m.QMP.Do(ctx, "stop", nil, nil); err != nil {
		return err
	}
	if err := m.QMP.Do(ctx, "migrate-set-parameters", map[string]any{"max-bandwidth": 8 << 30}, nil); err != nil {
		return err
	}
	if err := m.QMP.Do(ctx, "migrate", map[string]any{"uri": "exec:cat > " + tmp}, nil); err != nil {
		return err
	}
	if err := m.migrated(ctx); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// tail is the end of a text.
func tail(s string, lines int) string {
	all := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(all[max(len(all)-lines, 0):], "\n")
}
