package nvme

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// opcode of an admin command.
type opcode uint8

const (
	opGetLogPage opcode = 0x02
	opIdentify   opcode = 0x06
	opCommit     opcode = 0x10
	opDownload   opcode = 0x11
)

// command is one admin command; data is what the controller reads or writes.
type command struct {
	opcode       opcode
	nsid         uint32
	cdw10, cdw11 uint32
	data         []byte
	timeout      time.Duration
}

// admin is the controller's admin queue. A status other than success is a Status as error.
type admin interface {
	submit(c command) error
	Close() error
}

// Status is how a controller refuses a command: status code type and status code, without the bits
// "more" and "do not retry".
type Status uint16

// Status codes that mean something to a firmware update (NVMe 1.4, figures 126 and 127).
const (
	invalidOpcode      Status = 0x001
	invalidField       Status = 0x002
	invalidSlot        Status = 0x106
	invalidImage       Status = 0x107
	needsReset         Status = 0x10b
	needsSubsystem     Status = 0x110
	needsController    Status = 0x111
	needsTime          Status = 0x112
	activationRefused  Status = 0x113
	overlappingRange   Status = 0x114
	statusMask                = 0x7ff
	passthroughTimeout        = 10 * time.Second
)

func (s Status) Error() string {
	switch s {
	case invalidOpcode:
		return "NVMe status 0x001: the controller does not know this command"
	case invalidField:
		return "NVMe status 0x002: invalid field in command"
	case invalidSlot:
		return "NVMe status 0x106: invalid firmware slot"
	case invalidImage:
		return "NVMe status 0x107: invalid firmware image"
	case needsTime:
		return "NVMe status 0x112: activation takes longer than the controller allows while it runs"
	case activationRefused:
		return "NVMe status 0x113: activation is prohibited"
	case overlappingRange:
		return "NVMe status 0x114: overlapping range"
	}
	return fmt.Sprintf("NVMe status %#05x", uint16(s))
}

// passthru is struct nvme_passthru_cmd of linux/nvme_ioctl.h.
type passthru struct {
	opcode, flags            uint8
	_                        uint16
	nsid, cdw2, cdw3         uint32
	metadata, addr           uint64
	metadataLen, dataLen     uint32
	cdw10, cdw11, cdw12      uint32
	cdw13, cdw14, cdw15      uint32
	timeoutMilliseconds, res uint32
}

// ioctlAdmin is _IOWR('N', 0x41, struct nvme_admin_cmd).
const ioctlAdmin = 0xC0484E41

// device is a controller's character device, "/dev/nvme0".
type device struct{ f *os.File }

var _ admin = device{}

func (d device) submit(c command) error {
	p := passthru{
		opcode: uint8(c.opcode), nsid: c.nsid, cdw10: c.cdw10, cdw11: c.cdw11,
		timeoutMilliseconds: uint32(c.timeout.Milliseconds()),
	}
	var pin runtime.Pinner
	defer pin.Unpin()
	if len(c.data) > 0 {
		pin.Pin(&c.data[0])
		p.addr, p.dataLen = uint64(uintptr(unsafe.Pointer(&c.data[0]))), uint32(len(c.data))
	}
	status, _, errno := unix.Syscall(unix.SYS_IOCTL, d.f.Fd(), ioctlAdmin, uintptr(unsafe.Pointer(&p)))
	switch {
	case errors.Is(errno, unix.EINTR):
		return fmt.Errorf("the command was interrupted: %w", errno)
	case errno != 0:
		return errno
	case status&statusMask != 0:
		return Status(status & statusMask)
	}
	return nil
}

func (d device) Close() error { return d.f.Close() }
