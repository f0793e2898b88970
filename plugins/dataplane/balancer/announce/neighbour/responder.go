package neighbour

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"

	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Responder answers for a set of addresses on one link.
type Responder struct {
	link  *net.Interface
	arp   *packet.Conn
	nd    *packet.Conn
	log   *slog.Logger
	done  sync.WaitGroup
	mu    sync.Mutex
	owned map[netip.Addr]bool
}

// onlySolicitations passes IPv6 packets that are neighbour solicitations without extension headers.
var onlySolicitations = []bpf.Instruction{
	bpf.LoadAbsolute{Off: ethernet + 6, Size: 1},
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: icmpv6, SkipTrue: 3},
	bpf.LoadAbsolute{Off: ethernet + ipv6Header, Size: 1},
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: solicitation, SkipTrue: 1},
	bpf.RetConstant{Val: 2048},
	bpf.RetConstant{Val: 0},
}

// Listen opens the sockets on a link of the calling thread's network namespace. It answers for nothing yet.
func Listen(link *net.Interface, log *slog.Logger) (*Responder, error) {
	if len(link.HardwareAddr) != 6 {
		return nil, fmt.Errorf("link %s has no Ethernet address", link.Name)
	}
	filter, err := bpf.Assemble(onlySolicitations)
	if err != nil {
		return nil, fmt.Errorf("assemble filter: %w", err)
	}
	arp, err := packet.Listen(link, packet.Raw, typeARP, nil)
	if err != nil {
		return nil, fmt.Errorf("listen for ARP on %s: %w", link.Name, err)
	}
	nd, err := packet.Listen(link, packet.Raw, typeIPv6, &packet.Config{Filter: filter})
	if err != nil {
		arp.Close()
		return nil, fmt.Errorf("listen for neighbour solicitations on %s: %w", link.Name, err)
	}
	// Solicitations go to a multicast address made of the target's last three bytes.
	if err := allMulticast(nd, link.Index); err != nil {
		arp.Close()
		nd.Close()
		return nil, err
	}
	r := &Responder{link: link, arp: arp, nd: nd, log: log, owned: map[netip.Addr]bool{}}
	r.done.Go(func() { r.serve(arp, ParseARP, AppendARP) })
	r.done.Go(func() { r.serve(nd, ParseSolicitation, AppendAdvertisement) })
	return r, nil
}

func allMulticast(c *packet.Conn, index int) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return fmt.Errorf("receive multicast: %w", err)
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptPacketMreq(int(fd), unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP,
			&unix.PacketMreq{Ifindex: int32(index), Type: unix.PACKET_MR_ALLMULTI})
	})
	if err := errors.Join(err, failed); err != nil {
		return fmt.Errorf("receive multicast: %w", err)
	}
	return nil
}

// Own replaces the addresses that are answered for.
func (r *Responder) Own(addresses []netip.Addr) {
	owned := make(map[netip.Addr]bool, len(addresses))
	for _, a := range addresses {
		owned[a] = true
	}
	r.mu.Lock()
	r.owned = owned
	r.mu.Unlock()
}

// Announce tells everyone on the link about the addresses.
func (r *Responder) Announce() error {
	r.mu.Lock()
	addresses := make([]netip.Addr, 0, len(r.owned))
	for a := range r.owned {
		addresses = append(addresses, a)
	}
	r.mu.Unlock()
	var failed []error
	for _, a := range addresses {
		conn, frame := r.arp, []byte(nil)
		if a.Is4() {
			frame = AppendARP(nil, r.link.HardwareAddr, a, Question{})
		} else {
			conn, frame = r.nd, AppendAdvertisement(nil, r.link.HardwareAddr, a, Question{})
		}
		if _, err := conn.WriteTo(frame, &packet.Addr{HardwareAddr: net.HardwareAddr(frame[:6])}); err != nil {
			failed = append(failed, fmt.Errorf("announce %v on %s: %w", a, r.link.Name, err))
		}
	}
	return errors.Join(failed...)
}

// Close ends both listeners.
func (r *Responder) Close() error {
	err := errors.Join(r.arp.Close(), r.nd.Close())
	r.done.Wait()
	return err
}

func (r *Responder) serve(c *packet.Conn, parse func([]byte) (Question, bool),
	answer func([]byte, net.HardwareAddr, netip.Addr, Question) []byte,
) {
	buffer, reply := make([]byte, 2048), make([]byte, 0, 128)
	for {
		n, from, err := c.ReadFrom(buffer)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			if errors.Is(err, unix.ENETDOWN) {
				continue // once; the next read waits until the link is up
			}
			r.log.Warn("neighbour responder stopped", "link", r.link.Name, "err", err)
			return
		}
		q, ok := parse(buffer[:n])
		if !ok {
			continue
		}
		r.mu.Lock()
		ours := r.owned[q.Target]
		r.mu.Unlock()
		// Our own announcement comes back through some bridges.
		if !ours || string(q.AskerMAC) == string(r.link.HardwareAddr) {
			continue
		}
		reply = answer(reply[:0], r.link.HardwareAddr, q.Target, q)
		if _, err := c.WriteTo(reply, from); err != nil {
			r.log.Debug("neighbour answer was not sent", "target", q.Target, "err", err)
		}
	}
}
