package nbd

import (
	"errors"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// poller tells which sockets have something to read, each time something came (epoll(7), edge-triggered). It is for
// one goroutine, but for add.
type poller struct {
	fd     int
	events [64]unix.EpollEvent
}

func newPoller() (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	return &poller{fd: fd}, err
}

func (p *poller) close() { _ = unix.Close(p.fd) }

// add may be called while ready waits. What has come before is told as well.
func (p *poller) add(fd int) error {
	return unix.EpollCtl(p.fd, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET, Fd: int32(fd)})
}

func (p *poller) remove(fd int) { _ = unix.EpollCtl(p.fd, unix.EPOLL_CTL_DEL, fd, nil) }

// ready waits for some time until something came. The result is valid until the next call.
func (p *poller) ready(wait time.Duration) ([]unix.EpollEvent, error) {
	// What does not wait is not worth telling Go's scheduler of.
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(p.fd), uintptr(unsafe.Pointer(&p.events[0])), uintptr(len(p.events)), 0, 0, 0)
	if errno != 0 {
		n = 0
	}
	if n > 0 || wait <= 0 {
		return p.events[:n], nil
	}
	k, err := unix.EpollWait(p.fd, p.events[:], int(wait/time.Millisecond))
	if errors.Is(err, unix.EINTR) {
		return p.ready(0)
	}
	return p.events[:max(k, 0)], err
}

// receive reads what a socket holds and never waits; EAGAIN means nothing, 0 the end.
func receive(fd int, p []byte) (int, error) {
	return transferNow(unix.SYS_RECVFROM, fd, p)
}

// send writes as much as the socket takes.
func send(fd int, p []byte) (int, error) {
	return transferNow(unix.SYS_SENDTO, fd, p)
}

func transferNow(call uintptr, fd int, p []byte) (int, error) {
	for len(p) > 0 {
		n, _, errno := unix.RawSyscall6(call, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
	return 0, unix.ENOBUFS
}

// unread reports whether a socket holds something, or is none any more.
func unread(fd int) bool {
	n, err := unix.IoctlGetInt(fd, unix.SIOCINQ)
	return err != nil || n > 0
}

// hungUp reports whether the other side of a socket sends no more.
func hungUp(fd int) bool {
	const left = unix.POLLHUP | unix.POLLERR | unix.POLLRDHUP
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
	n, err := unix.Poll(p, 0)
	return err == nil && n > 0 && p[0].Revents&left != 0
}
