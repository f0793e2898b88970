// Package uevent listens to the kernel's device events.
//
// A Listener is opened before something is bound and asked afterwards which devices have been
// announced. The announcement of a disk comes after its partitions were read, which nothing in
// sysfs shows. A Listener belongs to one goroutine; events that the socket could not hold are
// reported by Lost, never silently missed.
//
// Source: lib/kobject_uevent.c; messages are "action@path" and KEY=value, each ended by NUL.
package uevent

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Event is one message of the kernel.
type Event struct {
	Action    string // "add", "remove", "change", …
	Path      string // below /sys: "/devices/pci0000:00/…/block/sda"
	Subsystem string // "block", "net", …
}

// Parse reads one message; ok is false for anything that is not one.
func Parse(msg []byte) (e Event, ok bool) {
	header, rest, found := bytes.Cut(msg, []byte{0})
	action, path, isEvent := bytes.Cut(header, []byte{'@'})
	// libudev's own messages share the socket; they have another header.
	if !found || !isEvent || len(path) == 0 || path[0] != '/' {
		return Event{}, false
	}
	e = Event{Action: string(action), Path: string(path)}
	for field := range bytes.SplitSeq(rest, []byte{0}) {
		if value, ok := bytes.CutPrefix(field, []byte("SUBSYSTEM=")); ok {
			e.Subsystem = string(value)
		}
	}
	return e, true
}

// Listener receives events from when it was opened.
type Listener struct {
	fd   int
	lost bool
}

// Listen opens a listener.
func Listen() (*Listener, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, fmt.Errorf("open uevent socket: %w", err)
	}
	const kernelGroup = 1
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: kernelGroup}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("bind uevent socket: %w", err)
	}
	return &Listener{fd: fd}, nil
}

// Wait returns the events that are there, after waiting at most d for the first.
func (l *Listener) Wait(d time.Duration) []Event {
	fds := []unix.PollFd{{Fd: int32(l.fd), Events: unix.POLLIN}}
	// An interrupted poll is an early return, which the caller's loop takes in its stride.
	if n, _ := unix.Poll(fds, int(d.Milliseconds())); n == 0 {
		return nil
	}
	var events []Event
	buf := make([]byte, 8192)
	for {
		n, from, err := unix.Recvfrom(l.fd, buf, 0)
		if errors.Is(err, unix.ENOBUFS) {
			l.lost = true
			continue
		}
		if err != nil {
			return events
		}
		// Only the kernel has port 0: other processes may send to the socket too.
		if sender, ok := from.(*unix.SockaddrNetlink); !ok || sender.Pid != 0 {
			continue
		}
		if e, ok := Parse(buf[:n]); ok {
			events = append(events, e)
		}
	}
}

// Lost says whether events were dropped since it was asked last, because nobody fetched them in time.
func (l *Listener) Lost() bool {
	lost := l.lost
	l.lost = false
	return lost
}

// Close ends listening.
func (l *Listener) Close() error { return unix.Close(l.fd) }
