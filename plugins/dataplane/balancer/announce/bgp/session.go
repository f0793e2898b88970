package bgp

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/osrg/gobgp/v4/pkg/packet/bgp"
)

// openWait bounds the time until a session is established (RFC 4271's large hold timer would be four minutes).
const openWait = 10 * time.Second

// session is one connection to a neighbour, from connect to the error that ends it.
type session struct {
	announcer  *Announcer
	index      int
	neighbour  Neighbour
	restarting bool

	conn        net.Conn
	hold        time.Duration
	families    map[bgp.Family]bool
	established bool
	hops        hops
	sent        map[netip.Addr]bool
}

// run returns the reason for the session's end.
func (s *session) run(ctx context.Context) error {
	connecting, cancel := context.WithTimeout(ctx, openWait)
	defer cancel()
	conn, err := s.announcer.o.Dial(connecting, "tcp", s.neighbour.Address.String())
	if err != nil {
		return err
	}
	defer conn.Close()
	// Whatever this goroutine waits for on the connection ends with ctx.
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	s.conn = conn
	r := bufio.NewReaderSize(conn, bgp.BGP_MAX_MESSAGE_LENGTH)
	if err := s.open(r); err != nil {
		return err
	}
	s.established = true
	s.announcer.note(s.index, func(st *Status) { st.Established, st.Since, st.Problem = true, time.Now(), "" })
	s.announcer.o.Log.Info("BGP session is up", "neighbour", s.neighbour.Address)
	return s.speak(ctx, r)
}

// open exchanges OPEN and the first KEEPALIVE.
func (s *session) open(r *bufio.Reader) error {
	s.conn.SetDeadline(time.Now().Add(openWait))
	speaker := s.announcer.o.Speaker
	ours, err := open(speaker, s.restarting)
	if err != nil {
		return fmt.Errorf("make OPEN: %w", err)
	}
	if err := s.send(ours); err != nil {
		return err
	}
	theirs, err := s.expect(r, bgp.BGP_MSG_OPEN)
	if err != nil {
		return err
	}
	as, hold, families := peerOf(theirs.body.(*bgp.BGPOpen))
	if as != s.neighbour.AS {
		s.refuse(bgp.BGP_ERROR_OPEN_MESSAGE_ERROR, bgp.BGP_ERROR_SUB_BAD_PEER_AS)
		return fmt.Errorf("neighbour is of AS %d, not %d", as, s.neighbour.AS)
	}
	s.families = families
	if s.hold = min(speaker.HoldTime, hold); hold != 0 && hold < 3*time.Second {
		s.refuse(bgp.BGP_ERROR_OPEN_MESSAGE_ERROR, bgp.BGP_ERROR_SUB_UNACCEPTABLE_HOLD_TIME)
		return fmt.Errorf("neighbour wants a hold time of %v", hold)
	}
	if err := s.send(bgp.NewBGPKeepAliveMessage()); err != nil {
		return err
	}
	if _, err := s.expect(r, bgp.BGP_MSG_KEEPALIVE); err != nil {
		return err
	}
	s.hops = hops{speaker.NextHop4, speaker.NextHop6}
	if local, err := netip.ParseAddrPort(s.conn.LocalAddr().String()); err == nil {
		if a := local.Addr().Unmap().WithZone(""); a.Is4() && !s.hops.v4.IsValid() {
			s.hops.v4 = a
		} else if a.Is6() && !s.hops.v6.IsValid() {
			s.hops.v6 = a
		}
	}
	return nil
}

// speak announces and keeps the session alive until it ends.
func (s *session) speak(ctx context.Context, r *bufio.Reader) error {
	ended, gone := make(chan error, 1), make(chan struct{})
	refresh := make(chan struct{}, 1)
	go func() {
		defer close(gone)
		ended <- s.listen(r, refresh)
	}()
	defer func() { // listen is at an end when run returns
		s.conn.Close()
		<-gone
	}()

	s.sent = map[netip.Addr]bool{}
	changed, err := s.synchronise()
	if err != nil {
		return err
	}
	for _, family := range []bgp.Family{bgp.RF_IPv4_UC, bgp.RF_IPv6_UC} {
		if s.families[family] {
			if err := s.send(bgp.NewEndOfRib(family)); err != nil {
				return err
			}
		}
	}
	var tick <-chan time.Time
	if s.hold > 0 {
		t := time.NewTicker(s.hold / 3)
		defer t.Stop()
		tick = t.C
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-ended:
			return err
		case <-tick:
			if err := s.send(bgp.NewBGPKeepAliveMessage()); err != nil {
				return err
			}
		case <-refresh:
			s.sent = map[netip.Addr]bool{}
			if changed, err = s.synchronise(); err != nil {
				return err
			}
		case <-changed:
			if changed, err = s.synchronise(); err != nil {
				return err
			}
		}
	}
}

// synchronise sends what the neighbour does not know yet.
func (s *session) synchronise() (<-chan struct{}, error) {
	wanted, changed := s.announcer.wanted()
	var announce, withdraw []netip.Addr
	for a := range wanted {
		if !s.sent[a] && s.families[familyOf(a)] {
			announce = append(announce, a)
		}
	}
	for a := range s.sent {
		if !wanted[a] {
			withdraw = append(withdraw, a)
		}
	}
	slices.SortFunc(announce, netip.Addr.Compare)
	slices.SortFunc(withdraw, netip.Addr.Compare)
	gone, err := withdrawals(withdraw)
	if err != nil {
		return nil, err
	}
	come, err := updates(announce, s.announcer.o.Speaker.AS, s.announcer.o.Speaker.AS == s.neighbour.AS, s.hops)
	if err != nil {
		return nil, err
	}
	for _, m := range append(gone, come...) {
		if err := s.send(m); err != nil {
			return nil, err
		}
	}
	for _, a := range withdraw {
		delete(s.sent, a)
	}
	for _, a := range announce {
		s.sent[a] = true
	}
	n := len(s.sent)
	s.announcer.note(s.index, func(st *Status) { st.Routes = n })
	return changed, nil
}

func familyOf(a netip.Addr) bgp.Family {
	if a.Is4() {
		return bgp.RF_IPv4_UC
	}
	return bgp.RF_IPv6_UC
}

// listen reads until the session ends.
func (s *session) listen(r *bufio.Reader, refresh chan<- struct{}) error {
	for {
		deadline := time.Time{}
		if s.hold > 0 {
			deadline = time.Now().Add(s.hold)
		}
		s.conn.SetReadDeadline(deadline)
		m, err := read(r)
		var late net.Error
		switch {
		case errors.As(err, &late) && late.Timeout():
			s.refuse(bgp.BGP_ERROR_HOLD_TIMER_EXPIRED, 0)
			return fmt.Errorf("nothing heard for the hold time of %v", s.hold)
		case err != nil:
			return err
		}
		switch m.kind {
		case bgp.BGP_MSG_NOTIFICATION:
			return notified(m)
		case bgp.BGP_MSG_ROUTE_REFRESH:
			select {
			case refresh <- struct{}{}:
			default:
			}
		case bgp.BGP_MSG_KEEPALIVE, bgp.BGP_MSG_UPDATE:
		default:
			s.refuse(bgp.BGP_ERROR_FSM_ERROR, 0)
			return fmt.Errorf("message of type %d in an established session", m.kind)
		}
	}
}

// expect reads one message of a kind.
func (s *session) expect(r *bufio.Reader, kind uint8) (message, error) {
	m, err := read(r)
	switch {
	case err != nil:
		return message{}, fmt.Errorf("wait for message of type %d: %w", kind, err)
	case m.kind == bgp.BGP_MSG_NOTIFICATION:
		return message{}, notified(m)
	case m.kind != kind:
		s.refuse(bgp.BGP_ERROR_FSM_ERROR, 0)
		return message{}, fmt.Errorf("message of type %d where %d is due", m.kind, kind)
	}
	return m, nil
}

func notified(m message) error {
	n := m.body.(*bgp.BGPNotification)
	return fmt.Errorf("neighbour ended the session: %v", bgp.NewNotificationErrorCode(n.ErrorCode, n.ErrorSubcode))
}

func (s *session) send(m *bgp.BGPMessage) error {
	b, err := m.Serialize()
	if err != nil {
		return fmt.Errorf("encode message: %w", err)
	}
	s.conn.SetWriteDeadline(time.Now().Add(max(s.hold, openWait)))
	if _, err := s.conn.Write(b); err != nil {
		return fmt.Errorf("send message: %w", err)
	}
	return nil
}

// refuse says why the session ends, if the connection still takes it.
func (s *session) refuse(code, subcode uint8) {
	_ = s.send(bgp.NewBGPNotificationMessage(code, subcode, nil))
}
