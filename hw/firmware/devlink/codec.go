package devlink

import (
	"fmt"
	"slices"
	"strings"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/hw/firmware"
)

// handle encodes which device is meant, and what more a command takes.
func (f *Firmware) handle(more func(*netlink.AttributeEncoder)) ([]byte, error) {
	e := netlink.NewAttributeEncoder()
	e.String(unix.DEVLINK_ATTR_BUS_NAME, f.bus)
	e.String(unix.DEVLINK_ATTR_DEV_NAME, f.device)
	if more != nil {
		more(e)
	}
	return e.Encode()
}

// parseInfo reads the reply to DEVLINK_CMD_INFO_GET: one component for each version name.
func parseInfo(data []byte) ([]firmware.Component, error) {
	d, err := netlink.NewAttributeDecoder(data)
	if err != nil {
		return nil, fmt.Errorf("read devlink information: %w", err)
	}
	found := map[string]*firmware.Component{}
	for d.Next() {
		kind := d.Type()
		if kind != unix.DEVLINK_ATTR_INFO_VERSION_FIXED && kind != unix.DEVLINK_ATTR_INFO_VERSION_RUNNING && kind != unix.DEVLINK_ATTR_INFO_VERSION_STORED {
			continue
		}
		d.Nested(func(n *netlink.AttributeDecoder) error {
			var name, value string
			for n.Next() {
				switch n.Type() {
				case unix.DEVLINK_ATTR_INFO_VERSION_NAME:
					name = firmware.Clean(n.String())
				case unix.DEVLINK_ATTR_INFO_VERSION_VALUE:
					value = firmware.Clean(n.String())
				}
			}
			c := found[name]
			if c == nil {
				c = &firmware.Component{Name: name}
				found[name] = c
			}
			switch kind {
			case unix.DEVLINK_ATTR_INFO_VERSION_STORED:
				c.Stored = value
			case unix.DEVLINK_ATTR_INFO_VERSION_FIXED:
				c.Running, c.Fixed = value, true
			default:
				c.Running = value
			}
			return n.Err()
		})
	}
	if err := d.Err(); err != nil {
		return nil, fmt.Errorf("read devlink information: %w", err)
	}
	out := make([]firmware.Component, 0, len(found))
	for _, c := range found {
		if c.Stored == c.Running {
			c.Stored = ""
		}
		out = append(out, *c)
	}
	slices.SortFunc(out, func(a, b firmware.Component) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// status is one notification of a flash.
type status struct {
	bus, device string
	firmware.Progress
}

// parseStatus reads a DEVLINK_CMD_FLASH_UPDATE_STATUS message.
func parseStatus(data []byte) (status, error) {
	var s status
	d, err := netlink.NewAttributeDecoder(data)
	if err != nil {
		return s, fmt.Errorf("read devlink flash status: %w", err)
	}
	for d.Next() {
		switch d.Type() {
		case unix.DEVLINK_ATTR_BUS_NAME:
			s.bus = d.String()
		case unix.DEVLINK_ATTR_DEV_NAME:
			s.device = d.String()
		case unix.DEVLINK_ATTR_FLASH_UPDATE_STATUS_MSG:
			s.Phase = firmware.Clean(d.String())
		case unix.DEVLINK_ATTR_FLASH_UPDATE_STATUS_DONE:
			s.Done = int64(d.Uint64() & (1<<63 - 1))
		case unix.DEVLINK_ATTR_FLASH_UPDATE_STATUS_TOTAL:
			s.Total = int64(d.Uint64() & (1<<63 - 1))
		}
	}
	if err := d.Err(); err != nil {
		return status{}, fmt.Errorf("read devlink flash status: %w", err)
	}
	return s, nil
}
