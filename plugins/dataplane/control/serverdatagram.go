package control

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"
)

// receive reads datagrams until the socket is closed.
func (s *Server) receive() {
	in, out := make([]byte, maxDatagram+1), make([]byte, 0, maxDatagram)
	for {
		n, from, err := s.o.Packets.ReadFromUDPAddrPort(in)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an ICMP error of something sent earlier
		}
		if answer := s.datagram(in[:n], out, from); answer != nil {
			_, _ = s.o.Packets.WriteToUDPAddrPort(answer, from) // a lost answer is what hosts reckon with
		}
	}
}

// datagram takes one datagram, which may come from anyone, and returns what to answer, in out. It decrypts in place.
func (s *Server) datagram(b, out []byte, from netip.AddrPort) []byte {
	h, _, err := parseHeader(b)
	if err != nil || h.kind == 0 || h.kind > maxKind {
		return nil
	}
	s.mu.RLock()
	ses := s.sessions[h.key]
	s.mu.RUnlock()
	if ses == nil {
		if !s.hints.take(s.now()) {
			return nil
		}
		return header{kind: kindUnknown, key: h.key}.append(out)
	}
	payload, ok := ses.accept(b, h, from, s.now())
	if !ok {
		return nil
	}
	handle := s.datagrams[h.kind]
	if handle == nil {
		return nil
	}
	reply := handle(ses.host, h.seq, payload)
	if reply == nil || len(reply) > MaxPayload {
		return nil
	}
	var answered [replyMark]byte
	binary.BigEndian.PutUint64(answered[:], h.seq)
	return ses.keys.seal(out, h.kind|replyBit, ses.sent.Add(1), answered[:], reply)
}

// accept proves a datagram: by its key, and that it is the first of its number.
func (ses *session) accept(b []byte, h header, from netip.AddrPort, now int64) ([]byte, bool) {
	ses.mu.Lock()
	fresh := ses.window.fresh(h.seq)
	ses.mu.Unlock()
	if !fresh { // cheaper than to decrypt what is refused anyway
		ses.stats.replayed.Add(1)
		return nil, false
	}
	payload, err := ses.keys.open(b, h.seq)
	if err != nil {
		ses.stats.forged.Add(1)
		return nil, false
	}
	ses.mu.Lock()
	defer ses.mu.Unlock()
	if !ses.window.fresh(h.seq) { // another reader had its copy
		ses.stats.replayed.Add(1)
		return nil, false
	}
	if h.seq > ses.window.newest { // the newest word says where the host is
		ses.address = from
	}
	ses.window.accept(h.seq)
	ses.heard.Store(now)
	ses.stats.datagrams.Add(1)
	return payload, true
}

// hintBudget bounds the unproven answers of a second.
type hintBudget struct {
	mu     sync.Mutex
	second int64
	spent  int
}

func (b *hintBudget) take(now int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if second := now / int64(time.Second); second != b.second {
		b.second, b.spent = second, 0
	}
	b.spent++
	return b.spent <= hintsPerSecond
}
