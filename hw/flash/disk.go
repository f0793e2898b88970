package flash

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/hw/disk"
	"github.com/ratchetos/ratchet/hw/internal/sysfs"
)

// Disk is what an operator should see before it is overwritten.
type Disk struct {
	Path    string
	File    bool // a regular file, which stands in for a disk
	Model   string
	Serial  string
	Size    int64  // bytes
	Content string // what its signature says is on it, "" when nothing is known
	// InUse lists what on this machine needs the disk, one reason each.
	InUse []string
}

// Is says whether both are what was seen of one disk.
func (d Disk) Is(o Disk) bool {
	return d.File == o.File && d.Model == o.Model && d.Serial == o.Serial && d.Size == o.Size && d.Content == o.Content
}

// Look finds out about a disk. It opens nothing for writing.
func Look(path string) (Disk, error) {
	st, err := os.Stat(path)
	if err != nil {
		return Disk{}, fmt.Errorf("look at disk: %w", err)
	}
	d := Disk{Path: path, File: st.Mode().IsRegular(), Size: st.Size()}
	if !d.File {
		if st.Mode()&fs.ModeDevice == 0 || st.Mode()&fs.ModeCharDevice != 0 {
			return Disk{}, fmt.Errorf("look at disk: %s is neither a disk nor a file", path)
		}
		if err := d.block("/"); err != nil {
			return Disk{}, fmt.Errorf("look at disk %s: %w", path, err)
		}
	}
	f, err := os.Open(path)
	if err != nil {
		return Disk{}, fmt.Errorf("look at disk: %w", err)
	}
	defer f.Close()
	if d.Content, err = disk.Signature(f, d.Size); err != nil {
		return Disk{}, fmt.Errorf("look at disk %s: %w", path, err)
	}
	return d, nil
}

// block asks sysfs and procfs about a block device and its partitions.
func (d *Disk) block(root string) error {
	var st unix.Stat_t
	if err := unix.Stat(d.Path, &st); err != nil {
		return err
	}
	number := fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	dir, err := filepath.EvalSymlinks(filepath.Join(root, "sys/dev/block", number))
	if err != nil {
		return err
	}
	users, err := readUsers(root)
	if err != nil {
		return err
	}
	return d.describe(dir, users)
}

// describe reads the disk whose folder in sysfs is dir.
func (d *Disk) describe(dir string, users map[string][]string) error {
	if sysfs.Attribute(dir, "partition") != "" {
		return fmt.Errorf("it is a partition; name the whole disk, /dev/%s", filepath.Base(filepath.Dir(dir)))
	}
	if n := sysfs.Attribute(dir, "queue/logical_block_size"); n != "" && n != fmt.Sprint(sector) {
		return fmt.Errorf("it has sectors of %s bytes; images are made for %d", n, sector)
	}
	id := disk.Read(dir)
	d.Model, d.Serial, d.Size = id.Model, id.Serial, int64(id.Size)
	if sysfs.Attribute(dir, "ro") == "1" {
		d.InUse = append(d.InUse, "it is read-only")
	}
	parts, err := filepath.Glob(filepath.Join(dir, "*", "partition"))
	if err != nil {
		return err
	}
	dirs := []string{dir}
	for _, p := range parts {
		dirs = append(dirs, filepath.Dir(p))
	}
	for _, dir := range dirs {
		name := filepath.Base(dir)
		for _, use := range users[sysfs.Attribute(dir, "dev")] {
			d.InUse = append(d.InUse, name+" "+use)
		}
		for _, use := range users["/dev/"+name] {
			d.InUse = append(d.InUse, name+" "+use)
		}
		holders, _ := os.ReadDir(filepath.Join(dir, "holders")) // no folder, no holders
		for _, h := range holders {
			d.InUse = append(d.InUse, name+" belongs to "+h.Name())
		}
	}
	return nil
}

// readUsers maps device numbers (mounts) and nodes (swap) to what they are used for.
func readUsers(root string) (map[string][]string, error) {
	users := map[string][]string{}
	// proc(5): "36 35 98:0 /mnt1 /mnt2 …": number and mount point are the third and the fifth field.
	err := eachLine(filepath.Join(root, "proc/self/mountinfo"), func(f []string) {
		if len(f) > 4 {
			users[f[2]] = append(users[f[2]], "is mounted on "+f[4])
		}
	})
	if err != nil {
		return nil, err
	}
	err = eachLine(filepath.Join(root, "proc/swaps"), func(f []string) {
		if len(f) > 0 && strings.HasPrefix(f[0], "/dev/") {
			users[f[0]] = append(users[f[0]], "is used as swap")
		}
	})
	return users, err
}

func eachLine(path string, do func(fields []string)) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	for s.Scan() {
		do(strings.Fields(s.Text()))
	}
	return s.Err()
}
