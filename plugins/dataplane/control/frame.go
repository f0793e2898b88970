package control

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// MaxMessage bounds a call's request and reply, in bytes.
const MaxMessage = 4 << 20

// Kinds of frames on the connection.
const (
	frameWelcome = iota + 1 // box → host, once: the session stands
	frameRefused            // box → host, once: it does not; the body says why
	frameCall               // host → box
	frameCancel             // host → box: nobody waits for this reply any more
	frameReply              // box → host
	frameError              // box → host: the handler's error
)

const (
	frameHeader = 4 + 4 + 1 // length of what follows it, id, kind
	maxMethod   = 64
	maxFrame    = frameHeader + 1 + maxMethod + MaxMessage
)

// frame is one message on the connection: length, id, kind, for a call the method behind its length, body.
type frame struct {
	id     uint32
	kind   byte
	method string // of a call
	body   []byte
}

var errFrame = errors.New("malformed frame")

// append writes the frame behind b.
func (f frame) append(b []byte) []byte {
	length := frameHeader - 4 + len(f.body)
	if f.kind == frameCall {
		length += 1 + len(f.method)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(length))
	b = binary.BigEndian.AppendUint32(b, f.id)
	b = append(b, f.kind)
	if f.kind == frameCall {
		b = append(b, byte(len(f.method)))
		b = append(b, f.method...)
	}
	return append(b, f.body...)
}

// readFrame reads one frame; its body is a buffer of its own. The length is checked before anything of that size
// is allocated, and a peer must send what it announced before more than a piece is.
func readFrame(r io.Reader) (frame, error) {
	var head [frameHeader]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return frame{}, err
	}
	length := binary.BigEndian.Uint32(head[:])
	if length < frameHeader-4 || length > maxFrame-4 {
		return frame{}, fmt.Errorf("%w: %d bytes long", errFrame, length)
	}
	f := frame{id: binary.BigEndian.Uint32(head[4:]), kind: head[8]}
	if f.kind < frameWelcome || f.kind > frameError {
		return frame{}, fmt.Errorf("%w: kind %d", errFrame, f.kind)
	}
	body, err := readBody(r, int(length)-(frameHeader-4))
	if err != nil {
		return frame{}, err
	}
	if f.kind == frameCall {
		if len(body) == 0 || int(body[0]) > maxMethod || 1+int(body[0]) > len(body) {
			return frame{}, fmt.Errorf("%w: a call without a method", errFrame)
		}
		n := 1 + int(body[0])
		f.method, body = string(body[1:n]), body[n:]
	}
	if len(body) > MaxMessage {
		return frame{}, fmt.Errorf("%w: a message of %d bytes", errFrame, len(body))
	}
	f.body = body
	return f, nil
}

// readBody grows with what really comes.
func readBody(r io.Reader, n int) ([]byte, error) {
	const piece = 64 << 10
	body := make([]byte, 0, min(n, piece))
	for len(body) < n {
		at := len(body)
		body = append(body, make([]byte, min(n-at, max(piece, at)))...)
		if _, err := io.ReadFull(r, body[at:]); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	return body, nil
}
