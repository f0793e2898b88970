package dir

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// directUnit is what address, offset and length of direct I/O are multiples of: enough for every disk there is.
const directUnit = 4096

// writeDirect writes the front of data to a new file with O_DIRECT, as much of it as consists of whole units, and returns how
// much that was. Nothing is written where that cannot be: the data does not begin at a page, is small, or the file system
// will not have it. What has gone wrong besides shows when the rest is written, or at the sync.
func writeDirect(f *os.File, data []byte) (done int) {
	if len(data) <= hashedSize || uintptr(unsafe.Pointer(&data[0]))%directUnit != 0 {
		return 0
	}
	fd := int(f.Fd())
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil {
		return 0
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFL, flags|unix.O_DIRECT); err != nil {
		return 0
	}
	whole := len(data) &^ (directUnit - 1)
	for done < whole {
		n, err := f.Write(data[done:whole])
		done += n
		if err != nil || done%directUnit != 0 {
			break
		}
	}
	// Should that fail, the kernel refuses the rest for not being whole units, and so the put.
	_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETFL, flags)
	return done
}
