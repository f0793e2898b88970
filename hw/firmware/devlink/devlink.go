// Package devlink is the firmware of NICs whose driver has a devlink instance, over generic netlink.
//
// INFO_GET gives versions by component: running, stored (the next reset activates them) and fixed. The
// firmware itself cannot be read: the strength is a version. FLASH_UPDATE takes the name of a file
// below the kernel's firmware folder, so the image is put there for as long as the command runs; the
// driver reports how far it is to a multicast group, from which a second socket reads.
//
// A flash cannot be stopped once it has begun: the command runs in the driver, in the system call that
// sent it. Activation is always left to the next reset of the device.
//
// Source: Linux uapi/linux/devlink.h; Documentation/networking/devlink/devlink-flash.rst, devlink-info.rst.
package devlink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/mdlayher/genetlink"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/hw/firmware"
)

// firmwareDir is where the kernel's loader looks for images.
const firmwareDir = "/lib/firmware"

// Firmware is that of one devlink instance.
type Firmware struct {
	bus, device string
	dir         string
	dial        func() (*genetlink.Conn, error)
	conn        *genetlink.Conn
	family      genetlink.Family
}

var _ firmware.Firmware = (*Firmware)(nil)

// Open finds the devlink instance of a device, by its bus ("pci") and name ("0000:03:00.0"). The error
// wraps firmware.ErrUnsupported when it has none.
func Open(bus, device string) (*Firmware, error) {
	return open(&Firmware{
		bus: bus, device: device, dir: firmwareDir,
		dial: func() (*genetlink.Conn, error) { return genetlink.Dial(nil) },
	})
}

func open(f *Firmware) (*Firmware, error) {
	conn, err := f.dial()
	if err != nil {
		return nil, fmt.Errorf("open devlink: %w", err)
	}
	f.conn = conn
	f.family, err = conn.GetFamily("devlink")
	if err == nil {
		_, err = f.info()
	}
	if err != nil {
		conn.Close()
		// Of a kernel without devlink, of a driver without an instance or one that tells nothing.
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EOPNOTSUPP) {
			err = fmt.Errorf("%w: %w", firmware.ErrUnsupported, err)
		}
		return nil, fmt.Errorf("open devlink of %s/%s: %w", f.bus, f.device, err)
	}
	return f, nil
}

// Close implements firmware.Firmware.
func (f *Firmware) Close() error { return f.conn.Close() }

// Inventory implements firmware.Firmware.
func (f *Firmware) Inventory(context.Context) ([]firmware.Component, error) { return f.info() }

func (f *Firmware) info() ([]firmware.Component, error) {
	data, err := f.handle(nil)
	if err != nil {
		return nil, fmt.Errorf("ask for devlink information: %w", err)
	}
	// No Acknowledge: the reply is the answer, and an ACK after it would be taken for that of the next.
	replies, err := f.conn.Execute(message(unix.DEVLINK_CMD_INFO_GET, data), f.family.ID, netlink.Request)
	if err != nil {
		return nil, fmt.Errorf("ask for devlink information: %w", err)
	}
	if len(replies) != 1 {
		return nil, fmt.Errorf("ask for devlink information: %d replies", len(replies))
	}
	return parseInfo(replies[0].Data)
}

func message(command uint8, data []byte) genetlink.Message {
	return genetlink.Message{Header: genetlink.Header{Command: command, Version: 1}, Data: data}
}

// ReadBack implements firmware.Firmware.
func (f *Firmware) ReadBack(context.Context) (firmware.Reading, error) {
	components, err := f.info()
	if err != nil {
		return firmware.Reading{}, err
	}
	r := firmware.Reading{Version: firmware.Running(components), Strength: firmware.Version}
	if r.Version == "" {
		r.Strength = firmware.None
	}
	if next := firmware.Stored(components); next != r.Version {
		r.Next = next
	}
	return r, nil
}

// Activate implements firmware.Firmware.
func (f *Firmware) Activate(context.Context) (firmware.When, error) { return firmware.AtReset, nil }

// Flash implements firmware.Firmware.
func (f *Firmware) Flash(ctx context.Context, image io.ReaderAt, size int64, progress func(firmware.Progress)) error {
	name, err := f.stage(ctx, image, size)
	if err != nil {
		return fmt.Errorf("put the firmware image where the kernel loads it: %w", err)
	}
	defer os.Remove(filepath.Join(f.dir, name))
	statuses, stop, err := f.monitor()
	if err != nil {
		return fmt.Errorf("follow devlink flash: %w", err)
	}
	defer stop()
	data, err := f.handle(func(e *netlink.AttributeEncoder) { e.String(unix.DEVLINK_ATTR_FLASH_UPDATE_FILE_NAME, name) })
	if err != nil {
		return fmt.Errorf("flash over devlink: %w", err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := f.conn.Execute(message(unix.DEVLINK_CMD_FLASH_UPDATE, data), f.family.ID, netlink.Request|netlink.Acknowledge)
		done <- err
	}()
	for {
		select {
		case s := <-statuses:
			if progress != nil && s.bus == f.bus && s.device == f.device && s.Phase != "" {
				progress(s.Progress)
			}
		case err := <-done:
			if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EBADMSG) || errors.Is(err, unix.ENOEXEC) {
				err = fmt.Errorf("%w: %w", firmware.ErrImage, err)
			}
			if err != nil {
				return fmt.Errorf("flash over devlink: %w", err)
			}
			return nil
		}
	}
}

// stage copies the image below the firmware folder under a name of its own.
func (f *Firmware) stage(ctx context.Context, image io.ReaderAt, size int64) (name string, err error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	if err := os.MkdirAll(f.dir, 0o755); err != nil {
		return "", err
	}
	file, err := os.CreateTemp(f.dir, "ratchet-*.fw")
	if err != nil {
		return "", err
	}
	_, err = io.Copy(file, io.NewSectionReader(image, 0, size))
	if err = errors.Join(err, file.Close()); err != nil {
		os.Remove(file.Name())
		return "", err
	}
	return filepath.Base(file.Name()), nil
}

// monitor follows the multicast group with what drivers report; stop ends it. What nobody fetches in
// time is dropped: it is only progress.
func (f *Firmware) monitor() (_ <-chan status, stop func(), err error) {
	conn, err := f.dial()
	if err != nil {
		return nil, nil, err
	}
	for _, g := range f.family.Groups {
		if g.Name == "config" {
			err = conn.JoinGroup(g.ID)
		}
	}
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	statuses := make(chan status, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			messages, _, err := conn.Receive()
			if err != nil {
				return // closed by stop, or overrun: the flash does not depend on it
			}
			for _, m := range messages {
				if m.Header.Command != unix.DEVLINK_CMD_FLASH_UPDATE_STATUS {
					continue
				}
				if s, err := parseStatus(m.Data); err == nil {
					select {
					case statuses <- s:
					default:
					}
				}
			}
		}
	}()
	return statuses, func() { conn.Close(); <-ended }, nil
}
