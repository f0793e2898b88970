package rpc

import (
	"errors"
	"fmt"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/libvirt/xdr"
)

// Code is a number of libvirt's virErrorNumber.
type Code int32

// Codes that make a difference to a caller.
const (
	CodeNoSupport        Code = 3 // the driver does not have this call
	CodeNoDomain         Code = 42
	CodeOperationInvalid Code = 55 // not in this state
	CodeTimeout          Code = 68 // another job holds the domain
	CodeNoMetadata       Code = 80
	CodeAborted          Code = 78
	CodeUnsupported      Code = 84
	CodeDenied           Code = 88
	CodeFinishOK         Code = 93 // a cancelled MigrateFinish that did what it should
	CodeNoDevice         Code = 99
)

// Error is the daemon's answer to a call that it could not do.
type Error struct {
	Code    Code
	Domain  int32 // which part of libvirt it comes from
	Message string
}

// Error is what the daemon said. It names the operation itself.
func (e *Error) Error() string {
	if e.Message == "" {
		return fmt.Sprintf("libvirt error %d", e.Code)
	}
	return e.Message
}

// IsCode tells whether err is a daemon's answer with one of codes.
func IsCode(err error, codes ...Code) bool {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return false
	}
	for _, c := range codes {
		if e.Code == c {
			return true
		}
	}
	return false
}

// parseError reads the payload of an answer with statusError. What follows the message is of no use to anybody since
// libvirt 0.1, but it is read: an error that is not one shows a daemon that cannot be trusted with the rest.
func parseError(payload []byte) error {
	d := xdr.NewDecoder(payload)
	e := &Error{Code: Code(d.Int32()), Domain: d.Int32(), Message: d.Optional(maxString)}
	d.Int32() // level
	if d.Bool() {
		skipDomain(d)
		d.Int32()
	}
	for range 3 {
		d.Optional(maxString)
	}
	d.Int32()
	d.Int32()
	if d.Bool() {
		skipDomain(d)
	}
	if err := d.End(); err != nil {
		return fmt.Errorf("answer is an error that cannot be read: %w: %w", ErrProtocol, err)
	}
	return e
}

// skipDomain passes over the name and UUID that domains and networks begin with.
func skipDomain(d *xdr.Decoder) {
	var uuid [16]byte
	d.String(maxString)
	d.Fixed(uuid[:])
}
