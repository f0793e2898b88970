package nbd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
)

var errNoExport = errors.New("client left without choosing an export")

// negotiate runs the handshake on c. On success it returns the connection to go on with,
// which is a TLS one if the client was upgraded, and the reader, which may hold the first
// requests already.
func negotiate(ctx context.Context, c net.Conn, exports Exports, conf *tls.Config, optional bool) (net.Conn, *reader, *handshake, error) {
	h := &handshake{exports: exports, offerTLS: conf != nil, demandTLS: conf != nil && !optional}
	rd := &reader{src: c, buf: make([]byte, 512)}
	if _, err := c.Write(h.hello(nil)); err != nil {
		return nil, nil, nil, fmt.Errorf("send greeting: %w", err)
	}
	b, err := rd.next(4)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("read client flags: %w", err)
	}
	if err := h.clientFlags(b); err != nil {
		return nil, nil, nil, err
	}
	for range maxOptions {
		reply, act, err := step(rd, h)
		if err != nil {
			return nil, nil, nil, err
		}
		if _, err := c.Write(reply); err != nil {
			return nil, nil, nil, fmt.Errorf("send option reply: %w", err)
		}
		switch act {
		case actTransmit:
			return c, rd, h, nil
		case actClose:
			return nil, nil, nil, errNoExport
		case actStartTLS:
			// Bytes that came before the TLS handshake were not protected by it: whoever put
			// them there must not have them taken for the client's.
			if rd.buffered() > 0 {
				return nil, nil, nil, errors.New("data in the clear after STARTTLS")
			}
			secure := tls.Server(c, conf)
			if err := secure.HandshakeContext(ctx); err != nil {
				return nil, nil, nil, fmt.Errorf("TLS handshake: %w", err)
			}
			c, rd.src = secure, secure
			h.secured()
		}
	}
	return nil, nil, nil, fmt.Errorf("client sent more than %d options", maxOptions)
}

// step reads one option and asks h for the answer.
func step(rd *reader, h *handshake) ([]byte, action, error) {
	b, err := rd.next(optionHeaderLen)
	if err != nil {
		return nil, 0, fmt.Errorf("read option: %w", err)
	}
	opt, n, err := parseOptionHeader(b)
	if err != nil {
		return nil, 0, err
	}
	data := make([]byte, n)
	if err := rd.readFull(data); err != nil {
		return nil, 0, fmt.Errorf("read option %d: %w", opt, err)
	}
	reply, act := h.option(nil, opt, data)
	return reply, act, nil
}
