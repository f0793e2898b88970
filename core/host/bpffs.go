package host

import (
	"encoding/hex"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
)

// bpffs is where the kernel's filesystem for BPF objects is mounted by convention; the directory is there in every
// kernel that has it.
const bpffs = "/sys/fs/bpf"

// openPins makes a directory on the bpffs for one plugin: programs, links and maps that it pins there work on while no
// process of it runs. It begins empty. What an earlier core left belonged to a network namespace that went with it.
func (l Local) openPins(req Request) (Opened, error) {
	if os.Geteuid() != 0 {
		return Opened{}, errors.New("BPF programs need root: run core as root, or on the appliance")
	}
	if err := mountBPFFS(bpffs); err != nil {
		return Opened{}, err
	}
	// Several cores may run on one workstation, each with a state directory of its own.
	token := fnv.New64a()
	_, _ = token.Write([]byte(l.Dir)) // never fails
	own := filepath.Join(bpffs, "ratchet-"+hex.EncodeToString(token.Sum(nil)))
	path := filepath.Join(own, req.Plugin)
	if err := os.RemoveAll(path); err != nil {
		return Opened{}, fmt.Errorf("empty BPF directory: %w", err)
	}
	if err := os.MkdirAll(path, 0o711); err != nil {
		return Opened{}, fmt.Errorf("make BPF directory: %w", err)
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return Opened{}, fmt.Errorf("open BPF directory: %w", err)
	}
	if err := errors.Join(f.Chmod(0o700), giveTo(f, req.UID)); err != nil {
		f.Close()
		return Opened{}, err
	}
	return Opened{
		Handle: &pluginpb.Handle{Id: path}, File: f,
		Release: func() error {
			// What is pinned ends here: the plugin is not enabled any more, or does not want it.
			err := os.RemoveAll(path)
			_ = os.Remove(own) // other plugins may have theirs
			return err
		},
	}, nil
}

func mountBPFFS(at string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(at, &st); errors.Is(err, unix.ENOENT) {
		return errors.New("mount bpffs: the kernel has no BPF")
	} else if err == nil && st.Type == unix.BPF_FS_MAGIC {
		return nil
	}
	if err := unix.Mount("bpf", at, "bpf", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0711"); err != nil {
		return fmt.Errorf("mount bpffs: %w", err)
	}
	return nil
}
