package dir

import (
	"errors"
	"io/fs"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/plugins/internal/objstore"
)

// TestClassify: what a file system answers has its place in the contract, and a full one says what to do.
func TestClassify(t *testing.T) {
	for errno, tc := range map[unix.Errno]struct {
		kind error
		says string
	}{
		unix.ENOENT: {objstore.ErrNotFound, ""},
		unix.EACCES: {objstore.ErrRefused, "chown -R"},
		unix.EROFS:  {objstore.ErrRefused, ""},
		unix.ENOSPC: {objstore.ErrUnavailable, "make room"},
		unix.EDQUOT: {objstore.ErrUnavailable, "make room"},
		unix.EIO:    {objstore.ErrUnavailable, ""},
	} {
		err := classify(&fs.PathError{Op: "write", Path: "x", Err: errno})
		if !errors.Is(err, tc.kind) || !errors.Is(err, errno) || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s is %v", errno, err)
		}
	}
}
