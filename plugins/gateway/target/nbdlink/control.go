package nbdlink

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/mdlayher/genetlink"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

const (
	// RequestTimeout is how long the kernel waits for an answer before it gives the connection up and sends the request
	// again on the next. Shorter means a shorter pause after a crash of the gateway; but a read that has to wait for the
	// store longer than this costs the connection, and initiators wait 30 s.
	RequestTimeout = 10 * time.Second
	// DeadConn is how long requests wait for a gateway that does not come back, before they fail.
	DeadConn = 5 * time.Minute
)

// Commands and attributes of the family, as in include/uapi/linux/nbd-netlink.h.
const (
	familyName = "nbd"
	groupName  = "nbd_mc_group"

	cmdConnect     = 1
	cmdDisconnect  = 2
	cmdReconfigure = 3
	cmdLinkDead    = 4

	attrIndex       = 1
	attrSize        = 2
	attrBlockSize   = 3
	attrTimeout     = 4
	attrServerFlags = 5
	attrClientFlags = 6
	attrSockets     = 7
	attrDeadConn    = 8
	attrBackend     = 10

	sockItem = 1
	sockFD   = 1

	// destroyOnDisconnect: the device goes when it is disconnected and closed.
	destroyOnDisconnect = 1 << 0
)

// ErrGone is wrapped when a device does not exist or is not attached to the backend any more.
var ErrGone = errors.New("the device is gone")

// Control is a connection to the kernel's nbd driver. It needs CAP_SYS_ADMIN. Not safe for concurrent use; Dead and
// Close may be called beside the others.
type Control struct {
	conn   *genetlink.Conn
	events *genetlink.Conn
	family genetlink.Family
}

// Open connects to the driver and listens to its events from now on.
func Open() (*Control, error) {
	c := new(Control)
	var err error
	if c.conn, err = genetlink.Dial(nil); err != nil {
		return nil, fmt.Errorf("open nbd control: %w", err)
	}
	if c.family, err = c.conn.GetFamily(familyName); err == nil {
		c.events, err = genetlink.Dial(nil)
	}
	if err == nil {
		err = c.join()
	}
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("open nbd control: %w", err)
	}
	return c, nil
}

func (c *Control) join() error {
	for _, g := range c.family.Groups {
		if g.Name == groupName {
			return c.events.JoinGroup(g.ID)
		}
	}
	return errors.New("the driver has no group for events")
}

// Close ends both connections; Dead returns.
func (c *Control) Close() {
	if c.conn != nil {
		_ = c.conn.Close()
	}
	if c.events != nil {
		_ = c.events.Close()
	}
}

// Dead waits for the next devices that have lost their connection.
func (c *Control) Dead() ([]int, error) {
	messages, _, err := c.events.Receive()
	if err != nil {
		return nil, fmt.Errorf("receive nbd events: %w", err)
	}
	var out []int
	for _, m := range messages {
		if m.Header.Command != cmdLinkDead {
			continue
		}
		if i, ok := index(m); ok {
			out = append(out, i)
		}
	}
	return out, nil
}

func index(m genetlink.Message) (int, bool) {
	d, err := netlink.NewAttributeDecoder(m.Data)
	if err != nil {
		return 0, false
	}
	for d.Next() {
		if d.Type() == attrIndex {
			return int(d.Uint32()), true
		}
	}
	return 0, false
}

// Connect makes a device of a socket and returns its index. The kernel has a reference of its own afterwards: close f.
func (c *Control) Connect(f *os.File, backend string, e Export) (int, error) {
	a := netlink.NewAttributeEncoder()
	a.Uint64(attrSize, e.Size)
	a.Uint64(attrBlockSize, uint64(e.BlockSize))
	a.Uint64(attrServerFlags, uint64(e.Flags))
	a.Uint64(attrClientFlags, destroyOnDisconnect)
	a.Uint64(attrTimeout, uint64(RequestTimeout/time.Second))
	a.Uint64(attrDeadConn, uint64(DeadConn/time.Second))
	a.String(attrBackend, backend)
	sockets(a, f)
	// No acknowledgement is asked for: the command has an answer of its own, and a second one would be read as that of the
	// next command.
	messages, err := c.execute(cmdConnect, a, netlink.Request)
	if err != nil {
		return -1, fmt.Errorf("connect %s to nbd: %w", backend, err)
	}
	for _, m := range messages {
		if i, ok := index(m); ok {
			return i, nil
		}
	}
	return -1, fmt.Errorf("connect %s to nbd: the answer names no device", backend)
}

// Reconnect gives a device a new socket in place of one that is known to be dead.
func (c *Control) Reconnect(device int, backend string, f *os.File) error {
	return c.reconfigure(device, backend, func(a *netlink.AttributeEncoder) { sockets(a, f) })
}

// Resize changes the size of a device that is in use.
func (c *Control) Resize(device int, backend string, size uint64) error {
	return c.reconfigure(device, backend, func(a *netlink.AttributeEncoder) { a.Uint64(attrSize, size) })
}

func (c *Control) reconfigure(device int, backend string, what func(*netlink.AttributeEncoder)) error {
	a := netlink.NewAttributeEncoder()
	a.Uint32(attrIndex, uint32(device))
	a.String(attrBackend, backend)
	what(a)
	_, err := c.execute(cmdReconfigure, a, netlink.Request|netlink.Acknowledge)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) {
		// The driver has one answer for a device that is not there, not connected, or another's.
		err = fmt.Errorf("%w: %w", ErrGone, err)
	}
	if err != nil {
		return fmt.Errorf("reconfigure nbd%d for %s: %w", device, backend, err)
	}
	return nil
}

// Disconnect ends a device. Requests that wait fail.
func (c *Control) Disconnect(device int) error {
	a := netlink.NewAttributeEncoder()
	a.Uint32(attrIndex, uint32(device))
	if _, err := c.execute(cmdDisconnect, a, netlink.Request|netlink.Acknowledge); err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("disconnect nbd%d: %w", device, err)
	}
	return nil
}

func (c *Control) execute(command uint8, a *netlink.AttributeEncoder, flags netlink.HeaderFlags) ([]genetlink.Message, error) {
	data, err := a.Encode()
	if err != nil {
		return nil, err
	}
	m := genetlink.Message{Header: genetlink.Header{Command: command, Version: 1}, Data: data}
	return c.conn.Execute(m, c.family.ID, flags)
}

func sockets(a *netlink.AttributeEncoder, f *os.File) {
	a.Nested(attrSockets, func(list *netlink.AttributeEncoder) error {
		list.Nested(sockItem, func(item *netlink.AttributeEncoder) error {
			item.Uint32(sockFD, uint32(f.Fd()))
			return nil
		})
		return nil
	})
}

// Device is the block device of an index.
func Device(index int) string { return "/dev/nbd" + strconv.Itoa(index) }

// Found is a device that is attached.
type Found struct {
	Index   int
	Backend string
	Size    uint64
}

// Find lists the attached devices below a sysfs ("" is the usual place) by the backends they were made for.
func Find(sys string) ([]Found, error) {
	if sys == "" {
		sys = "/sys"
	}
	dirs, err := os.ReadDir(filepath.Join(sys, "block"))
	if err != nil {
		return nil, fmt.Errorf("find nbd devices: %w", err)
	}
	var out []Found
	for _, d := range dirs {
		number, ok := strings.CutPrefix(d.Name(), "nbd")
		i, err := strconv.Atoi(number)
		if !ok || err != nil {
			continue
		}
		dir := filepath.Join(sys, "block", d.Name())
		backend, err := os.ReadFile(filepath.Join(dir, "backend"))
		if err != nil {
			continue // not attached, or not by netlink
		}
		f := Found{Index: i, Backend: strings.TrimSpace(string(backend))}
		if text, err := os.ReadFile(filepath.Join(dir, "size")); err == nil {
			sectors, _ := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64) // 0 for what is no number
			f.Size = sectors * defaultSector
		}
		out = append(out, f)
	}
	return out, nil
}
