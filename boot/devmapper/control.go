package devmapper

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	folder  = "/dev/mapper"
	control = folder + "/control"
)

// Open makes the mapping and returns its node, /dev/mapper/NAME.
func Open(c Crypt) (node string, err error) {
	fail := func(err error) (string, error) { return "", fmt.Errorf("map volume %s: %w", c.Name, err) }
	backing, err := number(c.Backing)
	if err != nil {
		return fail(err)
	}
	// As libcryptsetup writes it, so that other tools know what they see.
	uuid := "CRYPT-LUKS2-" + strings.ReplaceAll(c.UUID, "-", "") + "-" + c.Name
	if node, err = create(c.Name, uuid, func(d *os.File) (uint64, error) { return c.load(d, backing) }); err != nil {
		return fail(err)
	}
	return node, nil
}

// Map makes a mapping of one target of any kind and returns its node, /dev/mapper/NAME.
func Map(name string, t Target) (node string, err error) {
	node, err = create(name, "", func(d *os.File) (uint64, error) {
		return start(d, message{name: name, target: &target{sectors: uint64(t.Size / sector), kind: t.Kind, params: t.Params}})
	})
	if err != nil {
		return "", fmt.Errorf("map %s: %w", name, err)
	}
	return node, nil
}

// create makes an empty mapping, has it loaded, and takes it away again if that fails.
func create(name, uuid string, load func(d *os.File) (dev uint64, err error)) (node string, err error) {
	d, err := os.OpenFile(control, os.O_RDWR, 0)
	if err != nil {
		return "", fmt.Errorf("device-mapper: %w", err)
	}
	defer d.Close()
	if _, err := call(d, unix.DM_DEV_CREATE, message{name: name, uuid: uuid}); err != nil {
		return "", fmt.Errorf("create: %w", err)
	}
	dev, err := load(d)
	if err == nil {
		node, err = link(name, dev)
	}
	if err != nil {
		_, gone := call(d, unix.DM_DEV_REMOVE, message{name: name})
		return "", errors.Join(err, gone)
	}
	return node, nil
}

// start loads a table and lets requests through.
func start(d *os.File, table message) (dev uint64, err error) {
	if _, err := call(d, unix.DM_TABLE_LOAD, table); err != nil {
		return 0, fmt.Errorf("load table: %w", err)
	}
	// Suspend without its flag is resume.
	answer, err := call(d, unix.DM_DEV_SUSPEND, message{name: table.name})
	if err != nil {
		return 0, fmt.Errorf("resume: %w", err)
	}
	return device(answer), nil
}

// Send gives a message to a mapping's target.
func Send(name, text string) error {
	d, err := os.OpenFile(control, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("message to %s: %w", name, err)
	}
	defer d.Close()
	if _, err := call(d, unix.DM_TARGET_MSG, message{name: name, text: text}); err != nil {
		return fmt.Errorf("message %q to %s: %w", text, name, err)
	}
	return nil
}

// load gives the mapping its table and starts it.
func (c Crypt) load(d *os.File, backing string) (dev uint64, err error) {
	// The kernel looks for the key in the keyrings of the thread that loads the table.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	keyName := "ratchet:" + c.Name
	t, err := c.table(backing, keyName)
	if err != nil {
		return 0, err
	}
	id, err := unix.AddKey("logon", keyName, c.Key, unix.KEY_SPEC_THREAD_KEYRING)
	if err != nil {
		return 0, fmt.Errorf("add key: %w", err)
	}
	dev, err = start(d, message{name: c.Name, flags: unix.DM_SECURE_DATA_FLAG, target: t})
	if _, gone := unix.KeyctlInt(unix.KEYCTL_UNLINK, id, unix.KEY_SPEC_THREAD_KEYRING, 0, 0); gone != nil {
		err = errors.Join(err, fmt.Errorf("remove key: %w", gone))
	}
	return dev, err
}

// Remove takes a mapping away; one that is in use stays, with an error.
func Remove(name string) error {
	d, err := os.OpenFile(control, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("unmap volume %s: %w", name, err)
	}
	defer d.Close()
	if _, err := call(d, unix.DM_DEV_REMOVE, message{name: name}); err != nil {
		return fmt.Errorf("unmap volume %s: %w", name, err)
	}
	return os.Remove(filepath.Join(folder, name))
}

// link names the node that devtmpfs has made.
func link(name string, dev uint64) (string, error) {
	path := filepath.Join(folder, name)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	return path, os.Symlink(fmt.Sprintf("../dm-%d", minor(dev)), path)
}

// number is a block device's "major:minor".
func number(node string) (string, error) {
	var st unix.Stat_t
	if err := unix.Stat(node, &st); err != nil {
		return "", fmt.Errorf("%s: %w", node, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return "", fmt.Errorf("%s is no block device", node)
	}
	return fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev)), nil
}

// call sends one message; the answer overwrites it.
func call(d *os.File, request uintptr, m message) ([]byte, error) {
	b, err := m.encode()
	if err != nil {
		return nil, err
	}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, d.Fd(), request, uintptr(unsafe.Pointer(&b[0]))); errno != 0 {
		return nil, errno
	}
	return b, nil
}
