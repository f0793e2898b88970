package nbdlink

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

// Export is what the gateway says of a volume.
type Export struct {
	Size  uint64
	Flags uint16 // transmission flags
	// BlockSize is the smallest request.
	BlockSize uint32
}

// Refused is the gateway's own word on why there is no export.
type Refused struct {
	Name, Message string
	Code          uint32
}

func (e *Refused) Error() string {
	if e.Message == "" {
		return fmt.Sprintf("the gateway does not serve volume %s (reply %#x)", e.Name, e.Code)
	}
	return fmt.Sprintf("the gateway does not serve volume %s: %s", e.Name, e.Message)
}

// Numbers of the protocol, as doc/proto.md names them.
const (
	magicInit      = 0x4e42444d41474943
	magicOption    = 0x49484156454f5054
	magicReply     = 0x0003e889045565a9
	flagNewstyle   = 1 << 0
	flagNoZeroes   = 1 << 1
	optAbort       = 2
	optInfo        = 6
	optGo          = 7
	repAck         = 1
	repInfo        = 3
	repError       = 1 << 31
	infoExport     = 0
	infoBlockSize  = 3
	maxReply       = 64 << 10
	maxReplies     = 16
	defaultSector  = 512
	handshakeLimit = 15 * time.Second // the gateway lets a client wait for a volume that is on its way up
)

var be = binary.BigEndian

// Dial connects to the export of a volume and returns the socket, ready for requests.
func Dial(ctx context.Context, path, volume string) (*os.File, Export, error) {
	c, e, err := connect(ctx, path, volume, optGo)
	if err != nil {
		return nil, e, err
	}
	defer c.Close() // the file below is a duplicate
	f, err := c.File()
	if err != nil {
		return nil, e, fmt.Errorf("take socket of volume %s: %w", volume, err)
	}
	return f, e, nil
}

// Query asks for the export of a volume without taking it.
func Query(ctx context.Context, path, volume string) (Export, error) {
	c, e, err := connect(ctx, path, volume, optInfo)
	if err != nil {
		return e, err
	}
	defer c.Close()
	_, _ = c.Write(option(optAbort, nil)) // a polite goodbye; the server closes either way
	return e, nil
}

func connect(ctx context.Context, path, volume string, opt uint32) (*net.UnixConn, Export, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeLimit)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, Export{}, fmt.Errorf("connect to the gateway: %w", err)
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, Export{}, errors.New("connect to the gateway: not a unix socket")
	}
	deadline, _ := ctx.Deadline()
	c.SetDeadline(deadline)
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) }) // long past
	e, err := handshake(c, volume, opt)
	if stop(); err != nil {
		c.Close()
		return nil, e, err
	}
	c.SetDeadline(time.Time{})
	return u, e, nil
}

// handshake speaks fixed newstyle up to the answer to one GO or INFO. It reads not one byte more: what follows is the
// kernel's.
func handshake(rw io.ReadWriter, volume string, opt uint32) (Export, error) {
	var hello [18]byte
	if _, err := io.ReadFull(rw, hello[:]); err != nil {
		return Export{}, fmt.Errorf("read the gateway's greeting: %w", err)
	}
	if be.Uint64(hello[:]) != magicInit || be.Uint64(hello[8:]) != magicOption || be.Uint16(hello[16:])&flagNewstyle == 0 {
		return Export{}, errors.New("read the gateway's greeting: it does not speak fixed newstyle NBD")
	}
	flags := be.Uint16(hello[16:]) & (flagNewstyle | flagNoZeroes)
	body := be.AppendUint32(nil, uint32(len(volume)))
	body = append(body, volume...)
	body = be.AppendUint16(body, 1)
	body = be.AppendUint16(body, infoBlockSize)
	if _, err := rw.Write(append(be.AppendUint32(nil, uint32(flags)), option(opt, body)...)); err != nil {
		return Export{}, fmt.Errorf("ask for volume %s: %w", volume, err)
	}
	e := Export{BlockSize: defaultSector}
	for range maxReplies {
		kind, data, err := reply(rw, opt)
		if err != nil {
			return Export{}, fmt.Errorf("ask for volume %s: %w", volume, err)
		}
		switch {
		case kind == repInfo:
			e.info(data)
		case kind == repAck && e.Size > 0:
			return e, nil
		case kind&repError != 0:
			return Export{}, &Refused{Name: volume, Message: string(data), Code: kind}
		default:
			return Export{}, fmt.Errorf("ask for volume %s: unexpected reply %#x", volume, kind)
		}
	}
	return Export{}, fmt.Errorf("ask for volume %s: no end of replies", volume)
}

// info takes one piece of information; those that were not asked for are no concern.
func (e *Export) info(data []byte) {
	if len(data) < 2 {
		return
	}
	switch kind, rest := be.Uint16(data), data[2:]; {
	case kind == infoExport && len(rest) == 10:
		e.Size, e.Flags = be.Uint64(rest), be.Uint16(rest[8:])
	case kind == infoBlockSize && len(rest) == 12:
		e.BlockSize = be.Uint32(rest)
	}
}

func option(opt uint32, body []byte) []byte {
	b := be.AppendUint64(nil, magicOption)
	b = be.AppendUint32(b, opt)
	b = be.AppendUint32(b, uint32(len(body)))
	return append(b, body...)
}

func reply(r io.Reader, opt uint32) (kind uint32, data []byte, err error) {
	var h [20]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return 0, nil, err
	}
	n := be.Uint32(h[16:])
	if be.Uint64(h[:]) != magicReply || be.Uint32(h[8:]) != opt || n > maxReply {
		return 0, nil, errors.New("malformed reply")
	}
	data = make([]byte, n)
	if _, err := io.ReadFull(r, data); err != nil {
		return 0, nil, err
	}
	return be.Uint32(h[12:]), data, nil
}
