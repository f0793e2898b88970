package nbd

import (
	"encoding/binary"
	"errors"
	"math/bits"
)

var be = binary.BigEndian

// request is the header of one request, as it came.
type request struct {
	flags  uint16
	cmd    Command
	cookie uint64 // the client's handle, echoed in the reply
	off    uint64
	n      uint32
	part   bool // of a READ that is answered in pieces: not the last
}

// errMagic and errTooBig end the connection: what follows cannot be told from data.
var (
	errMagic  = errors.New("request has wrong magic")
	errTooBig = errors.New("write is larger than the maximum block size")
)

// parseRequest decodes a header of requestLen bytes.
func parseRequest(b []byte) (request, error) {
	_ = b[requestLen-1]
	if be.Uint32(b) != magicRequest {
		return request{}, errMagic
	}
	return request{
		flags:  be.Uint16(b[4:]),
		cmd:    Command(be.Uint16(b[6:])),
		cookie: be.Uint64(b[8:]),
		off:    be.Uint64(b[16:]),
		n:      be.Uint32(b[24:]),
	}, nil
}

// limits is what requests of one connection are checked against.
type limits struct {
	size       uint64
	minimum    uint32 // block size, power of two
	maximum    uint32 // of READ and WRITE, at most MaxRequest
	readOnly   bool
	structured bool
	selected   contexts // what BLOCK_STATUS is answered in
	cache      bool     // the backend can fetch ahead
}

// allowedFlags holds the flags each command may carry. FUA is tolerated everywhere, as the
// protocol demands, because clients are known to set it on anything.
var allowedFlags = [...]uint16{
	CmdRead:        cmdFUA | cmdDF,
	CmdWrite:       cmdFUA,
	CmdFlush:       cmdFUA,
	CmdTrim:        cmdFUA,
	CmdCache:       cmdFUA,
	CmdWriteZeroes: cmdFUA | cmdNoHole | cmdFastZero,
	CmdBlockStatus: cmdFUA | cmdReqOne,
}

// check decides whether a request may reach the backend: 0, or the errno of the reply.
// It is a pure function of its arguments.
func (l *limits) check(r request) uint32 {
	if r.cmd == CmdDisc {
		return 0 // there is no reply to complain in
	}
	if int(r.cmd) >= len(allowedFlags) || r.flags&^allowedFlags[r.cmd] != 0 {
		return nbdEINVAL
	}
	if r.flags&cmdDF != 0 && !l.structured {
		return nbdEINVAL
	}
	switch r.cmd {
	case CmdFlush:
		if r.off != 0 || r.n != 0 {
			return nbdEINVAL
		}
		return 0
	case CmdWrite, CmdTrim, CmdWriteZeroes:
		if l.readOnly {
			return nbdEPERM
		}
	case CmdBlockStatus:
		if l.selected == 0 || r.n == 0 {
			return nbdEINVAL
		}
	case CmdCache:
		if !l.cache {
			return nbdEINVAL
		}
	}
	if (r.cmd == CmdRead || r.cmd == CmdWrite) && r.n > l.maximum {
		return nbdEINVAL
	}
	// The sum is not formed before the offset is known to be small: it could wrap.
	if r.off > l.size || uint64(r.n) > l.size-r.off {
		if r.cmd == CmdWrite || r.cmd == CmdWriteZeroes {
			return nbdENOSPC
		}
		return nbdEINVAL
	}
	if (r.off|uint64(r.n))&uint64(l.minimum-1) != 0 {
		return nbdEINVAL
	}
	return 0
}

// status returns how many bytes the reply to a BLOCK_STATUS may have, 0 for other commands.
func (l *limits) status(r request) int {
	if r.cmd != CmdBlockStatus {
		return 0
	}
	extents := int(min(maxExtents, r.n))
	if r.flags&cmdReqOne != 0 {
		extents = 1
	}
	return bits.OnesCount8(uint8(l.selected)) * (structuredLen + 4 + extents*extentDescriptor)
}

// payload returns how many bytes of data follow the header on the wire. A length that no
// server has to take is an error, because skipping it would let a client tie us up.
func (l *limits) payload(r request) (uint32, error) {
	if r.cmd != CmdWrite {
		return 0, nil
	}
	if r.n > MaxRequest {
		return 0, errTooBig
	}
	return r.n, nil
}
