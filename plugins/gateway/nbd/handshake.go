package nbd

import (
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"
)

// handshake is the option haggling of one connection without its I/O: it is stepped by the
// client's flags and options and says what to send and what to do next.
type handshake struct {
	exports    Exports
	offerTLS   bool
	demandTLS  bool // nothing but STARTTLS is answered before TLS runs
	secure     bool // TLS is running
	noZeroes   bool
	structured bool

	// The context a client selects is bound to the export name it gave; another name at
	// the end of the handshake drops it.
	metaExport string
	selected   contexts

	chosen *Export // set with actTransmit
	name   string  // by which the client chose it
}

// action is what the driver does after it has sent a reply.
type action int

const (
	actContinue action = iota
	actStartTLS        // run a TLS handshake on the connection
	actTransmit        // requests follow
	actClose
)

// hello is the server's greeting.
func (h *handshake) hello(dst []byte) []byte {
	dst = be.AppendUint64(dst, magicInit)
	dst = be.AppendUint64(dst, magicOption)
	return be.AppendUint16(dst, flagFixedNewstyle|flagNoZeroes)
}

// clientFlags takes the four bytes that answer the greeting.
func (h *handshake) clientFlags(b []byte) error {
	f := be.Uint32(b)
	if unknown := f &^ uint32(flagFixedNewstyle|flagNoZeroes); unknown != 0 {
		return fmt.Errorf("client flags %#x unknown", unknown)
	}
	h.noZeroes = f&uint32(flagNoZeroes) != 0
	return nil
}

// parseOptionHeader decodes optionHeaderLen bytes. After an error the connection is of no use.
func parseOptionHeader(b []byte) (opt, n uint32, err error) {
	_ = b[optionHeaderLen-1]
	if be.Uint64(b) != magicOption {
		return 0, 0, errors.New("option has wrong magic")
	}
	opt, n = be.Uint32(b[8:]), be.Uint32(b[12:])
	if n > MaxOption {
		return 0, 0, fmt.Errorf("option %d has %d bytes, at most %d are taken", opt, n, MaxOption)
	}
	return opt, n, nil
}

// option takes one option and appends the replies to dst.
func (h *handshake) option(dst []byte, opt uint32, data []byte) ([]byte, action) {
	if h.demandTLS && !h.secure {
		switch opt {
		case optStartTLS, optAbort:
		case optExportName:
			return dst, actClose // the one option that cannot be answered with an error
		default:
			return appendRefusal(dst, opt, repErrTLSReqd, "this server speaks TLS only"), actContinue
		}
	}
	switch opt {
	case optExportName:
		return h.exportName(dst, data)
	case optAbort:
		return appendOptReply(dst, opt, repAck, nil), actClose
	case optList:
		return h.list(dst, data), actContinue
	case optStartTLS:
		return h.startTLS(dst, data)
	case optInfo, optGo:
		return h.info(dst, opt, data)
	case optStructuredReply:
		if len(data) != 0 {
			return appendRefusal(dst, opt, repErrInvalid, "option takes no data"), actContinue
		}
		h.structured = true
		return appendOptReply(dst, opt, repAck, nil), actContinue
	case optListMeta, optSetMeta:
		return h.meta(dst, opt, data), actContinue
	default:
		return appendRefusal(dst, opt, repErrUnsup, "option not known"), actContinue
	}
}

func (h *handshake) startTLS(dst, data []byte) ([]byte, action) {
	switch {
	case !h.offerTLS:
		return appendRefusal(dst, optStartTLS, repErrPolicy, "TLS is not configured"), actContinue
	case h.secure:
		return appendRefusal(dst, optStartTLS, repErrInvalid, "TLS is running already"), actContinue
	case len(data) != 0:
		return appendRefusal(dst, optStartTLS, repErrInvalid, "option takes no data"), actContinue
	}
	return appendOptReply(dst, optStartTLS, repAck, nil), actStartTLS
}

// secured tells that TLS runs now. All that was negotiated before was in the clear, where
// anyone could have changed it: forget it.
func (h *handshake) secured() {
	h.secure = true
	h.structured, h.selected, h.metaExport = false, 0, ""
}

func (h *handshake) exportName(dst, data []byte) ([]byte, action) {
	if !validName(data) {
		return dst, actClose
	}
	e := h.exports.Lookup(string(data))
	if e == nil {
		return dst, actClose
	}
	h.choose(e, string(data))
	dst = be.AppendUint64(dst, e.Backend.Size())
	dst = be.AppendUint16(dst, e.transmissionFlags(h.structured))
	if !h.noZeroes {
		dst = append(dst, make([]byte, oldZeroes)...)
	}
	return dst, actTransmit
}

func (h *handshake) choose(e *Export, name string) {
	h.chosen, h.name = e, name
	if h.metaExport != name {
		h.selected = 0
	}
}

func (h *handshake) list(dst, data []byte) []byte {
	if len(data) != 0 {
		return appendRefusal(dst, optList, repErrInvalid, "option takes no data")
	}
	for _, e := range h.exports.List() {
		body := be.AppendUint32(nil, uint32(len(e.Name)))
		body = append(body, e.Name...)
		body = append(body, e.Description...)
		dst = appendOptReply(dst, optList, repServer, body)
	}
	return appendOptReply(dst, optList, repAck, nil)
}

// info answers INFO and GO, which differ only in what follows success.
func (h *handshake) info(dst []byte, opt uint32, data []byte) ([]byte, action) {
	p := parser{data}
	name, ok1 := p.name()
	wants, ok2 := p.uint16s()
	if !ok1 || !ok2 || len(p.b) != 0 {
		return appendRefusal(dst, opt, repErrInvalid, "option is malformed"), actContinue
	}
	e := h.exports.Lookup(name)
	if e == nil {
		return appendRefusal(dst, opt, repErrUnknown, "no such export; list them to see the names"), actContinue
	}
	minimum, preferred, maximum := e.blockSize()
	// Clients that do not ask for the block size send multiples of defaultSector.
	if minimum > defaultSector && opt == optGo && !slices.Contains(wants, infoBlockSize) {
		return appendRefusal(dst, opt, repErrBlockSize, "export needs a client that asks for the block size"), actContinue
	}
	body := be.AppendUint16(nil, infoExport)
	body = be.AppendUint64(body, e.Backend.Size())
	body = be.AppendUint16(body, e.transmissionFlags(h.structured))
	dst = appendOptReply(dst, opt, repInfo, body)
	if slices.Contains(wants, infoName) {
		dst = appendOptReply(dst, opt, repInfo, append(be.AppendUint16(nil, infoName), e.Name...))
	}
	if slices.Contains(wants, infoDescription) && e.Description != "" {
		dst = appendOptReply(dst, opt, repInfo, append(be.AppendUint16(nil, infoDescription), e.Description...))
	}
	if slices.Contains(wants, infoBlockSize) {
		body = be.AppendUint16(body[:0], infoBlockSize)
		body = be.AppendUint32(body, minimum)
		body = be.AppendUint32(body, preferred)
		body = be.AppendUint32(body, maximum)
		dst = appendOptReply(dst, opt, repInfo, body)
	}
	dst = appendOptReply(dst, opt, repAck, nil)
	if opt == optInfo {
		return dst, actContinue
	}
	h.choose(e, name)
	return dst, actTransmit
}

// meta answers LIST_META_CONTEXT and SET_META_CONTEXT.
func (h *handshake) meta(dst []byte, opt uint32, data []byte) []byte {
	if opt == optSetMeta {
		h.selected = 0 // what is refused below selects nothing either
	}
	if !h.structured {
		return appendRefusal(dst, opt, repErrInvalid, "negotiate structured replies first")
	}
	p := parser{data}
	name, ok := p.name()
	count, ok2 := p.uint32()
	if !ok || !ok2 {
		return appendRefusal(dst, opt, repErrInvalid, "option is malformed")
	}
	// An empty list of queries means everything to LIST and nothing to SET.
	var match contexts
	if count == 0 && opt == optListMeta {
		match = ^match
	}
	for range count {
		q, ok := p.bytes32()
		if !ok {
			return appendRefusal(dst, opt, repErrInvalid, "option is malformed")
		}
		match |= matching(string(q), opt == optListMeta)
	}
	if len(p.b) != 0 {
		return appendRefusal(dst, opt, repErrInvalid, "option is malformed")
	}
	e := h.exports.Lookup(name)
	if e == nil {
		return appendRefusal(dst, opt, repErrUnknown, "no such export; list them to see the names")
	}
	match &= e.contexts()
	if opt == optSetMeta {
		h.selected, h.metaExport = match, name
	}
	for _, c := range contextNames {
		if match&c.ctx == 0 {
			continue
		}
		id := uint32(0) // a context that is only listed has none
		if opt == optSetMeta {
			id = c.id
		}
		dst = appendOptReply(dst, opt, repMeta, append(be.AppendUint32(nil, id), c.name...))
	}
	return appendOptReply(dst, opt, repAck, nil)
}

func appendOptReply(dst []byte, opt, kind uint32, body []byte) []byte {
	dst = be.AppendUint64(dst, magicOptReply)
	dst = be.AppendUint32(dst, opt)
	dst = be.AppendUint32(dst, kind)
	dst = be.AppendUint32(dst, uint32(len(body)))
	return append(dst, body...)
}

func appendRefusal(dst []byte, opt, kind uint32, message string) []byte {
	return appendOptReply(dst, opt, kind, []byte(message))
}

// parser takes fields off the front of an option. Every method reports whether the field
// was there; none reads past the end.
type parser struct{ b []byte }

func (p *parser) take(n int) ([]byte, bool) {
	if n < 0 || n > len(p.b) {
		return nil, false
	}
	head := p.b[:n]
	p.b = p.b[n:]
	return head, true
}

func (p *parser) uint32() (uint32, bool) {
	b, ok := p.take(4)
	if !ok {
		return 0, false
	}
	return be.Uint32(b), true
}

func (p *parser) bytes32() ([]byte, bool) {
	n, ok := p.uint32()
	if !ok || n > MaxOption {
		return nil, false
	}
	return p.take(int(n))
}

func (p *parser) name() (string, bool) {
	b, ok := p.bytes32()
	if !ok || !validName(b) {
		return "", false
	}
	return string(b), true
}

// uint16s takes a 16-bit count and as many 16-bit numbers.
func (p *parser) uint16s() ([]uint16, bool) {
	b, ok := p.take(2)
	if !ok {
		return nil, false
	}
	b, ok = p.take(2 * int(be.Uint16(b)))
	if !ok {
		return nil, false
	}
	list := make([]uint16, 0, len(b)/2)
	for ; len(b) > 0; b = b[2:] {
		list = append(list, be.Uint16(b))
	}
	return list, true
}

func validName(b []byte) bool {
	return len(b) <= MaxName && utf8.Valid(b) && !slices.Contains(b, 0)
}
