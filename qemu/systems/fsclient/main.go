// Fsclient is PID 1 of a guest whose disks hold filesystems: it writes files and says which of them are synced, or
// checks the files that were.
//
//	fsclient.check=no        write for ever: "guest: /dev/vda synced 17" means that files 0 to 17 must survive
//	fsclient.check=17,23     the files up to these numbers, disk by disk, are there and right
package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/qemu/guest/inside"
)

// kinds are the filesystems of the disks, in order.
var kinds = [...]string{"ext4", "xfs"}

func main() { inside.Main(run) }

func run() error {
	mode, err := parameter("fsclient.check")
	if err != nil {
		return err
	}
	var last []int
	for n := range strings.SplitSeq(mode, ",") {
		if i, err := strconv.Atoi(n); err == nil {
			last = append(last, i)
		}
	}
	if len(last) != 0 && len(last) != len(kinds) {
		return fmt.Errorf("fsclient.check=%s: a number for each of %v", mode, kinds)
	}
	var group sync.WaitGroup
	errs := make([]error, len(kinds))
	for i, kind := range kinds {
		group.Go(func() {
			disk, at := fmt.Sprintf("/dev/vd%c", 'a'+i), "/"+kind
			if errs[i] = mount(disk, at, kind); errs[i] != nil {
				return
			}
			if len(last) == 0 {
				errs[i] = write(disk, at)
				return
			}
			errs[i] = errors.Join(check(at, last[i]), unix.Unmount(at, 0))
		})
	}
	group.Wait()
	return errors.Join(errs...)
}

func parameter(name string) (string, error) {
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return "", err
	}
	for word := range strings.FieldsSeq(string(line)) {
		if v, ok := strings.CutPrefix(word, name+"="); ok {
			return v, nil
		}
	}
	return "", fmt.Errorf("%s is not on the kernel's command line", name)
}

func mount(disk, at, kind string) error {
	if err := os.MkdirAll(at, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(disk, at, kind, unix.MS_NOATIME, ""); err != nil {
		return fmt.Errorf("mount %s as %s: %w", disk, kind, err)
	}
	return nil
}

// content is what is in file n: no two are the same, sizes differ.
func content(n int) []byte {
	return bytes.Repeat(binary.LittleEndian.AppendUint64(nil, uint64(n)*0x9e3779b97f4a7c15), 512*(1+n%16))
}

func path(at string, n int) string { return filepath.Join(at, strconv.Itoa(n%8), strconv.Itoa(n)) }

// write goes on until the disk is full or gone. Every file is renamed into its place, as careful programs do.
func write(disk, at string) error {
	for n := 0; ; n++ {
		to := path(at, n)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		if err := put(to, content(n)); err != nil {
			return fmt.Errorf("file %d: %w", n, err)
		}
		inside.Say("%s synced %d", disk, n)
	}
}

func put(to string, p []byte) error {
	f, err := os.Create(to + ".new")
	if err != nil {
		return err
	}
	_, err = f.Write(p)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(to+".new", to); err != nil {
		return err
	}
	for _, name := range []string{filepath.Dir(to), filepath.Dir(filepath.Dir(to))} {
		d, err := os.Open(name)
		if err != nil {
			return err
		}
		if err := errors.Join(d.Sync(), d.Close()); err != nil {
			return err
		}
	}
	return nil
}

func check(at string, last int) error {
	for n := range last + 1 {
		p, err := os.ReadFile(path(at, n))
		if err != nil {
			return fmt.Errorf("a file that was synced is gone: %w", err)
		}
		if !bytes.Equal(p, content(n)) {
			return fmt.Errorf("file %s is not what was synced", path(at, n))
		}
	}
	return nil
}
