package bench

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// gatewayAreas measure the storage gateway as a workstation runs it: `ratchet core --config …`, clients on a unix socket.
func gatewayAreas() []area {
	return []area{
		{"gateway/local", (*session).gatewayLocal},
		{"gateway/sustained", (*session).gatewaySustained},
		{"gateway/remote", (*session).gatewayRemote},
		{"gateway/s3backer", (*session).gatewayS3backer},
		{"gateway/memory", (*session).gatewayMemory},
		{"gateway/cut", (*session).gatewayCut},
	}
}

// memoryDir is a tmpfs on every Linux that systemd has started, and in containers.
const memoryDir = "/dev/shm"

const (
	gib = 1 << 30
)

// gatewayConfig is what a measurement wants of the gateway.
type gatewayConfig struct {
	size   int64  // of the volume
	disk   int64  // for its log and cache
	memory bool   // the disk is in memory
	store  string // the section, as YAML flow
	hold   bool   // nothing is uploaded
	maxAge string // of a write before its upload begins
}

// dirStore is an object store in a folder beside the disk.
func dirStore(dir string) string {
	return fmt.Sprintf("{driver: dir, path: %q}", filepath.Join(dir, "store"))
}

// gateway starts the appliance with one volume on a disk file in dir and returns it with its export.
func (s *session) gateway(ctx context.Context, dir string, c gatewayConfig) (*workstation, *target, error) {
	disk := filepath.Join(dir, "disk.img")
	if c.memory {
		disk = filepath.Join(memoryDir, "ratchet-bench-"+filepath.Base(dir)+".img")
		defer func() {
			// The gateway holds it open; nothing is left when it ends.
			if err := os.Remove(disk); err != nil && !errors.Is(err, fs.ErrNotExist) {
				s.note("%v", err)
			}
		}()
	}
	if err := prewritten(disk, c.disk); err != nil {
		return nil, nil, err
	}
	socket := filepath.Join(dir, "gateway.sock")
	upload := fmt.Sprintf("max_age: %s", orText(c.maxAge, "5s"))
	if c.hold {
		upload = "hold: true"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "version: 1\nhostname: bench\ntpm: none\napi: {listen: none}\ntime: {ntp: []}\nplugins:\n  gateway:\n    volumes:\n")
	fmt.Fprintf(&b, "      - name: %s\n        size: %d\n        disk: \"file:%s\"\n        store: %s\n        upload: {%s}\n", volume, c.size, disk, c.store, upload)
	fmt.Fprintf(&b, "    nbd: {listen: [\"unix:%s\"]}\n", socket)
	w, err := s.appliance(ctx, dir, b.String())
	if err != nil {
		return nil, nil, err
	}
	t := &target{name: "ratchet", socket: socket, export: volume, pid: func(ctx context.Context) (int, error) {
		p, err := w.gateway(ctx)
		return int(p.GetPid()), err
	}}
	if err := t.await(ctx); err != nil {
		w.stop()
		return nil, nil, fmt.Errorf("%w\n%s", err, w.log.String())
	}
	return w, t, nil
}

func orText(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// dropCache makes the kernel forget what it holds of a file, as a machine has forgotten it after a cut.
func dropCache(f *os.File) error {
	return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
}

// fill writes the first n bytes of a target in order, with data that neither compresses nor repeats.
func (t *target) fill(ctx context.Context, n int64) error {
	_, err := t.run(ctx, fioJob{rw: "write", block: "1M", depth: 8, ops: int(n / mib), size: n, extra: []string{"--refill_buffers"}})
	return err
}

// uploaded returns when everything that has been written is in the store.
func (w *workstation) uploaded(ctx context.Context) error {
	return w.ctl(ctx, "volume", "flush", volume)
}
