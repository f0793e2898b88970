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
	w := &watcher{list: list, tell: func(l Link) { now = append(now, l) }, known: map[int]string{}}
	if err := w.all(); err != nil {
		return nil, nil, errors.Join(err, list.Close(), c.Close())
	}
	w.tell = f
	stop := context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) })
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer list.Close()
		defer c.Close()
		defer stop()
		w.follow(ctx, c)
	}()
	return now, func() { <-done }, nil
}

// watcher takes the kernel's messages for hints: it asks how the link is now. What is in a message may be overtaken by
// one that the socket had no room for, and not every one that says "deleted" is about the link: one that leaves a
// bridge is deleted there.
type watcher struct {
	list  *rtnetlink.Conn
	tell  func(Link)
	known map[int]string // names of the links there are, by index
}

func (w *watcher) follow(ctx context.Context, c *netlink.Conn) {
	missed := false
	for ctx.Err() == nil {
		messages, err := c.Receive()
		switch {
		case errors.Is(err, unix.ENOBUFS): // more changed than the socket held
			missed = true
			drain(c)
		case err != nil:
			return
		}
		for _, m := range messages {
			var hint rtnetlink.LinkMessage
			if missed || hint.UnmarshalBinary(m.Data) != nil {
				continue
			}
			if l, err := w.list.Link.Get(hint.Index); err == nil {
				w.seen(l)
			} else { // not there any more; the library does not tell that from other errors
				missed = true
			}
		}
		if missed {
			missed = w.all() != nil // tried again with the next message
		}
	}
}

// drain empties the socket. Until then the kernel drops what comes, without another word.
func drain(c *netlink.Conn) {
	raw, err := c.SyscallConn()
	if err != nil {
		return // closed: so says the next Receive
	}
	_ = raw.Control(func(fd uintptr) {
		var b [1]byte
		for {
			_, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_DONTWAIT)
			if err != nil && !errors.Is(err, unix.ENOBUFS) && !errors.Is(err, unix.EINTR) {
				return
			}
		}
	})
}

// all looks at every link, and at those that are not there any more.
func (w *watcher) all() error {
	links, err := w.list.Link.List()
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	there := map[int]bool{}
	for _, l := range links {
		there[int(l.Index)] = true
	}
	for index, name := range w.known {
		if !there[index] {
			w.tell(Link{Index: index, Name: name, Gone: true})
			delete(w.known, index)
		}
	}
	for _, l := range links {
		w.seen(l)
	}
	return nil
}

func (w *watcher) seen(l rtnetlink.LinkMessage) {
	s := Link{Index: int(l.Index)}
	if l.Attributes != nil {
		s.Name = l.Attributes.Name
	}
	s.Carrier = l.Flags&unix.IFF_UP != 0 && l.Flags&unix.IFF_LOWER_UP != 0 && l.Flags&unix.IFF_RUNNING != 0
	w.known[s.Index] = s.Name
	w.tell(s)
}
