package agent

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/ratchetos/ratchet/plugins/dataplane/overlay"
)

// deviceName is the overlay's device on this host, "" if no side uses one.
func (c *Config) deviceName() string {
	switch {
	case !c.overlay():
		return ""
	case c.Attachments != nil && c.Attachments.Overlay != "":
		return c.Attachments.Overlay
	}
	return overlay.DeviceName
}

// device is the overlay's device, once it has been seen.
type device struct {
	name  string
	index int
}

// follow ends with an error when the device is deleted: programs and routes have gone with it, and only a new process puts
// all of them back.
func (d *device) follow(ctx context.Context) error {
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for {
		if err := d.look(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// look says whether the device is the one that was there before; one that is not there yet is waited for.
func (d *device) look() error {
	i, err := net.InterfaceByName(d.name)
	switch {
	case d.index == 0 && err == nil:
		d.index = i.Index
	case d.index != 0 && (err != nil || i.Index != d.index):
		return fmt.Errorf("link %s was deleted, with the programs and routes on it: starting anew", d.name)
	}
	return nil
}
