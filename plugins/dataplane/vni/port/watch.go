package port

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jsimonetti/rtnetlink/v2"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Link is what the watcher says of a link of the namespace.
type Link struct {
	Index int
	Name  string
	// Carrier: up, and the other end is there and up; of a tap, that someone has it open.
	Carrier bool
	Gone    bool
}

// Links lists the links there are and calls f with each that changes from then on, on a goroutine of its own, until
// ctx ends; wait returns when that has ended. It must be called on a thread of the namespace.
func Links(ctx context.Context, f func(Link)) (now []Link, wait func(), err error) {
	c, err := netlink.Dial(unix.NETLINK_ROUTE, &netlink.Config{Groups: unix.RTMGRP_LINK})
	if err != nil {
		return nil, nil, fmt.Errorf("follow links: %w", err)
	}
	// The subscription came first, so that nothing falls between the list and it.
	list, err := rtnetlink.Dial(nil)
	if err != nil {
		c.Close()
		return nil, nil, fmt.Errorf("list links: %w", err)
	}
	links, err := list.Link.List()
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("list links: %w", err), list.Close(), c.Close())
	}
	for _, l := range links {
		now = append(now, seen(l, false))
	}
	stop := context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) })
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer list.Close()
		defer c.Close()
		defer stop()
		for ctx.Err() == nil {
			messages, err := c.Receive()
			switch {
			case errors.Is(err, unix.ENOBUFS): // more changed than the socket held
				links, _ := list.Link.List()
				for _, l := range links {
					f(seen(l, false))
				}
			case err != nil:
				return
			}
			for _, m := range messages {
				var l rtnetlink.LinkMessage
				if l.UnmarshalBinary(m.Data) == nil {
					f(seen(l, m.Header.Type == unix.RTM_DELLINK))
				}
			}
		}
	}()
	return now, func() { <-done }, nil
}

func seen(l rtnetlink.LinkMessage, gone bool) Link {
	s := Link{Index: int(l.Index), Gone: gone}
	if l.Attributes != nil {
		s.Name = l.Attributes.Name
	}
	s.Carrier = l.Flags&unix.IFF_UP != 0 && l.Flags&unix.IFF_LOWER_UP != 0 && l.Flags&unix.IFF_RUNNING != 0
	return s
}
