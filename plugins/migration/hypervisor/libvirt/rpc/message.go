package rpc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/libvirt/xdr"
)

// Types of a message.
const (
	typeCall    = 0
	typeReply   = 1
	typeMessage = 2 // an event
	typeStream  = 3
)

// Status of a message.
const (
	statusOK       = 0
	statusError    = 1
	statusContinue = 2 // more of the stream follows
)

const (
	lengthSize = 4
	headerSize = 24
	// maxFrame bounds a message. The daemon may send 32 MiB; the largest answer asked for here is a list of VMs, of
	// which 16384 at 100 bytes each are under 2 MiB.
	maxFrame = 8 << 20
	// maxString bounds strings inside of errors.
	maxString = 1 << 20
	// maxStream is how much a packet of a stream may carry: more is refused by daemons before 1.3.
	maxStream = 256 << 10
)

// ErrProtocol means that the daemon sent something that no daemon sends.
var ErrProtocol = errors.New("not libvirt's protocol")

// Proc names a procedure: a program, its version and a number in it.
type Proc struct {
	Program, Version uint32
	Number           int32
}

// header stands before each payload.
type header struct {
	proc   Proc
	kind   int32
	serial uint32 // of the call that a reply or a stream belongs to; 0 in an event
	status int32
}

// message is one frame.
type message struct {
	header
	payload []byte
}

// encode is the frame of m.
func (m message) encode() []byte {
	var e xdr.Encoder
	e.Uint32(uint32(lengthSize + headerSize + len(m.payload)))
	e.Uint32(m.proc.Program)
	e.Uint32(m.proc.Version)
	e.Int32(m.proc.Number)
	e.Int32(m.kind)
	e.Uint32(m.serial)
	e.Int32(m.status)
	return append(e.Bytes(), m.payload...)
}

// readMessage takes the next frame off r.
func readMessage(r io.Reader) (message, error) {
	var length [lengthSize]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return message{}, err
	}
	n := int64(binary.BigEndian.Uint32(length[:])) - lengthSize
	if n < headerSize || n > maxFrame {
		return message{}, fmt.Errorf("frame of %d bytes: %w", n, ErrProtocol)
	}
	var b bytes.Buffer
	if got, err := io.CopyN(&b, r, n); err != nil {
		return message{}, fmt.Errorf("read frame: %d of %d bytes: %w", got, n, errors.Join(err, io.ErrUnexpectedEOF))
	}
	return parseMessage(b.Bytes())
}

// parseMessage splits a frame without its length.
func parseMessage(b []byte) (message, error) {
	if len(b) < headerSize {
		return message{}, fmt.Errorf("header of %d bytes: %w", len(b), ErrProtocol)
	}
	d := xdr.NewDecoder(b[:headerSize])
	m := message{header: header{
		proc: Proc{Program: d.Uint32(), Version: d.Uint32(), Number: d.Int32()},
		kind: d.Int32(), serial: d.Uint32(), status: d.Int32(),
	}, payload: b[headerSize:]}
	if m.kind < typeReply || m.kind > typeStream {
		return message{}, fmt.Errorf("message of type %d from the daemon: %w", m.kind, ErrProtocol)
	}
	if m.status < statusOK || m.status > statusContinue {
		return message{}, fmt.Errorf("message of status %d: %w", m.status, ErrProtocol)
	}
	return m, nil
}
