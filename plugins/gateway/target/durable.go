package target

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Flags of linux/fs.h, as chattr +S and +D set them.
const (
	flagSync    = 0x00000008
	flagDirSync = 0x00010000
)

// synchronous makes every write to files that are made in dir from now on durable before it returns, and their making
// too. LIO answers an initiator that wants its reservation kept when it has written the file, and syncs nothing: the
// filesystem has to. One that has no such flags (there is no STATE) forgets the file with the power anyway.
func synchronous(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("make writes to a directory durable: %w", err)
	}
	defer f.Close()
	flags, err := unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, int(flags|flagSync|flagDirSync))
	}
	if err != nil && !errors.Is(err, unix.ENOTTY) && !errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("make writes to %s durable: %w", dir, err)
	}
	return nil
}
