package guest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// tree is the guest's files below a root.
type tree struct {
	root string
	// write is os.WriteFile, or a test's kernel.
	write func(path, value string) error
	// claimed tells whether a block device or a part of it is held by somebody who wants it alone, or a test's kernel.
	claimed func(path string) bool
}

func newTree(root string) tree {
	if root == "" {
		root = "/"
	}
	return tree{root: root, claimed: claimed, write: func(path, value string) error {
		// Without O_CREATE: a file that is not there is hardware that is not there.
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteString(value)
		if e := f.Close(); err == nil {
			err = e
		}
		return err
	}}
}

// claimed tries to have a block device alone, which changes nothing. File systems in whatever namespace, swap, md, LVM, ZFS and careful
// programs have theirs so (open(2), O_EXCL).
func claimed(path string) bool {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_EXCL|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err == nil {
		unix.Close(fd)
	}
	return errors.Is(err, unix.EBUSY)
}

func (t tree) path(elem ...string) string { return filepath.Join(append([]string{t.root}, elem...)...) }

// text is a file's content without its last newline, "" if it cannot be read.
func (t tree) text(elem ...string) string {
	b, _ := os.ReadFile(t.path(elem...))
	return strings.TrimSpace(string(b))
}

func (t tree) exists(elem ...string) bool {
	_, err := os.Stat(t.path(elem...))
	return err == nil
}

func (t tree) set(value string, elem ...string) error { return t.write(t.path(elem...), value) }

// names are a folder's entries, sorted; none if it is not there.
func (t tree) names(elem ...string) []string {
	entries, _ := os.ReadDir(t.path(elem...))
	out := make([]string, 0, len(entries))
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

// link is the last element of what a symbolic link points to, "" if there is none.
func (t tree) link(elem ...string) string {
	to, err := os.Readlink(t.path(elem...))
	if err != nil {
		return ""
	}
	return filepath.Base(to)
}

// cpuList reads the kernel's lists, as "0-3,8".
func cpuList(s string) ([]int, error) {
	if s == "" {
		return nil, nil
	}
	var out []int
	for part := range strings.SplitSeq(s, ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		a, err := strconv.ParseUint(first, 10, 16)
		if err != nil {
			return nil, fmt.Errorf("parse list %q: %w", s, err)
		}
		b, err := strconv.ParseUint(last, 10, 16)
		if err != nil {
			return nil, fmt.Errorf("parse list %q: %w", s, err)
		}
		for n := a; n <= b; n++ {
			out = append(out, int(n))
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}
