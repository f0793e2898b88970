package nbd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

// Handed is a connection between two requests: everything that was asked is answered. Another process goes on with it,
// and the client does not notice. A connection with TLS cannot be handed on: its keys are in this process.
type Handed struct {
	Socket *os.File `json:"-"` // a duplicate, the receiver's
	// What the client negotiated.
	Export     string `json:"export"` // as the client named it
	Structured bool   `json:"structured,omitempty"`
	Contexts   uint8  `json:"contexts,omitempty"`
	// Unread was received and not looked at.
	Unread []byte `json:"unread,omitempty"`
}

// payloadGrace is how long a server that is stopped waits for the rest of a write whose header it has seen.
const payloadGrace = 2 * time.Second

// handOn gives the connection away if that is wanted and possible.
func (r *run) handOn(k *link, s *session, h *handshake, ended error) bool {
	if !errors.Is(ended, errStopping) || h.secure || r.server.HandOn == nil || s.out.failed() || s.rd.spill.n > 0 {
		return false
	}
	f, err := duplicate(k.current())
	if err != nil {
		r.log.Warn("hand NBD connection on", "err", err)
		return false
	}
	unread := append([]byte(nil), s.rd.buf[s.rd.r:s.rd.w]...)
	if r.server.HandOn(Handed{Socket: f, Export: h.name, Structured: h.structured, Contexts: uint8(h.selected), Unread: unread}) {
		return true
	}
	f.Close()
	return false
}

func duplicate(c net.Conn) (*os.File, error) {
	d, ok := c.(interface{ File() (*os.File, error) })
	if !ok {
		return nil, fmt.Errorf("a %T has no descriptor", c)
	}
	return d.File()
}

// adopt goes on with a connection of another process, unless it would not be let in now: those handed on are in the clear.
func (r *run) adopt(hard context.Context, g Handed) {
	if r.server.TLS != nil && !r.server.TLSOptional {
		r.log.Info("NBD client without TLS, which is demanded now, closing", "export", g.Export)
		g.Socket.Close()
		return
	}
	c, err := net.FileConn(g.Socket)
	g.Socket.Close()
	if err != nil {
		r.log.Warn("take over NBD connection", "err", err)
		return
	}
	k := newLink(c)
	if !r.add(k) {
		k.end()
		return
	}
	r.wg.Go(func() {
		defer r.remove(k)
		h := &handshake{exports: r.server.Exports, structured: g.Structured, selected: contexts(g.Contexts), name: g.Export}
		if h.chosen = r.server.Exports.Lookup(g.Export); h.chosen == nil {
			r.log.Info("NBD connection of an export that is gone", "remote", k.remote)
			return
		}
		rd := &reader{src: c, buf: make([]byte, max(512, len(g.Unread)))}
		rd.w = copy(rd.buf, g.Unread)
		r.transmit(hard, k, c, rd, h)
	})
}
