package capacity

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/plugins/dataplane/capacity/split"
)

// What sock_diag(7) and linux/inet_diag.h say.
const (
	sockDiagByFamily = 20
	tcpListen        = 10
	requestSize      = 56 // struct inet_diag_req_v2
	replySize        = 72 // struct inet_diag_msg
)

// listenQueue measures the free places in accept queues. It sees connections whose handshake is over and that nobody
// has accepted yet; what is still in its handshake is the splitter's Settle to cover.
type listenQueue struct {
	conn    *netlink.Conn
	sockets []netip.AddrPort
}

var _ source = (*listenQueue)(nil)

// openListenQueue opens a socket in the calling thread's network namespace: the one whose sockets are looked at.
func openListenQueue(sockets []netip.AddrPort) (*listenQueue, error) {
	conn, err := netlink.Dial(unix.NETLINK_SOCK_DIAG, nil)
	if err != nil {
		return nil, fmt.Errorf("open sock_diag: %w", err)
	}
	return &listenQueue{conn: conn, sockets: sockets}, nil
}

// reopen begins with a new socket: in the old one an answer may wait that came too late, and be taken for the next one's.
func (q *listenQueue) reopen() error {
	conn, err := netlink.Dial(unix.NETLINK_SOCK_DIAG, nil)
	if err != nil {
		return fmt.Errorf("open sock_diag: %w", err)
	}
	old := q.conn
	q.conn = conn
	return old.Close()
}

func (q *listenQueue) close() error { return q.conn.Close() }

func (q *listenQueue) measure(time.Duration) (split.Measurement, error) {
	found := make([]bool, len(q.sockets))
	free := uint64(0)
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		q.conn.SetReadDeadline(time.Now().Add(time.Second))
		answers, err := q.conn.Execute(netlink.Message{
			Header: netlink.Header{Type: sockDiagByFamily, Flags: netlink.Request | netlink.Dump},
			Data:   diagRequest(family),
		})
		if err != nil {
			return split.Measurement{}, errors.Join(fmt.Errorf("measure listen queues: %w", err), q.reopen())
		}
		for _, a := range answers {
			l, err := parseListener(a.Data)
			if err != nil {
				return split.Measurement{}, fmt.Errorf("measure listen queues: %w", err)
			}
			for i, s := range q.sockets {
				if s.Port() == l.at.Port() && (!s.Addr().IsValid() || s.Addr() == l.at.Addr()) {
					found[i] = true
					free += uint64(l.most - min(l.most, l.waiting))
				}
			}
		}
	}
	for i, ok := range found {
		if !ok {
			return split.Measurement{}, fmt.Errorf("nobody listens on %s", name(q.sockets[i]))
		}
	}
	return split.Measurement{Limit: uint32(min(free, math.MaxUint32))}, nil
}

func name(s netip.AddrPort) string {
	if !s.Addr().IsValid() {
		return fmt.Sprintf("port %d", s.Port())
	}
	return s.String()
}

// diagRequest asks for all listening TCP sockets of a family.
func diagRequest(family byte) []byte {
	b := make([]byte, requestSize)
	b[0], b[1] = family, unix.IPPROTO_TCP
	binary.NativeEndian.PutUint32(b[4:], 1<<tcpListen)
	return b
}

// listener is a listening socket: how many connections wait in its queue, and how many may.
type listener struct {
	at            netip.AddrPort
	waiting, most uint32
}

// parseListener reads a struct inet_diag_msg.
func parseListener(b []byte) (listener, error) {
	if len(b) < replySize {
		return listener{}, errors.New("answer of sock_diag is truncated")
	}
	address := netip.AddrFrom16([16]byte(b[8:24])).Unmap()
	if b[0] == unix.AF_INET {
		address = netip.AddrFrom4([4]byte(b[8:12]))
	}
	return listener{
		at:      netip.AddrPortFrom(address, binary.BigEndian.Uint16(b[4:])),
		waiting: binary.NativeEndian.Uint32(b[56:]), most: binary.NativeEndian.Uint32(b[60:]),
	}, nil
}
