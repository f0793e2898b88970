package nbd

import (
	"errors"
	"syscall"
)

// Sentinels a Backend wraps to choose what the client is told.
var (
	ErrPermission   = errors.New("not permitted")           // EPERM: read-only, fenced by policy
	ErrIO           = errors.New("input/output error")      // EIO: data lost, fenced, media
	ErrInvalid      = errors.New("invalid argument")        // EINVAL
	ErrNoSpace      = errors.New("no space left on volume") // ENOSPC
	ErrOverflow     = errors.New("value too large")         // EOVERFLOW
	ErrNotSupported = errors.New("operation not supported") // ENOTSUP
	ErrShutdown     = errors.New("volume is shutting down") // ESHUTDOWN: the client must disconnect
)

// Error values of the protocol. They look like Linux errnos but are numbers on the wire.
const (
	nbdEPERM     uint32 = 1
	nbdEIO       uint32 = 5
	nbdEINVAL    uint32 = 22
	nbdENOSPC    uint32 = 28
	nbdEOVERFLOW uint32 = 75
	nbdENOTSUP   uint32 = 95
	nbdESHUTDOWN uint32 = 108
)

// errno maps an error of a backend to the protocol. Errors of the operating system are
// mapped too, so that a backend over a file need not translate them.
func errno(err error) uint32 {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, ErrPermission), errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EROFS):
		return nbdEPERM
	case errors.Is(err, ErrNoSpace), errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, syscall.EFBIG):
		return nbdENOSPC
	case errors.Is(err, ErrInvalid), errors.Is(err, syscall.EINVAL):
		return nbdEINVAL
	case errors.Is(err, ErrOverflow):
		return nbdEOVERFLOW
	case errors.Is(err, ErrNotSupported), errors.Is(err, errors.ErrUnsupported):
		return nbdENOTSUP
	case errors.Is(err, ErrShutdown):
		return nbdESHUTDOWN
	default:
		return nbdEIO
	}
}

// isExhausted reports whether an accept failed for want of something that may come back.
func isExhausted(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) ||
		errors.Is(err, syscall.ENOBUFS) || errors.Is(err, syscall.ENOMEM) || errors.Is(err, syscall.ECONNABORTED)
}
