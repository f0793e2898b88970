package port

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/mdlayher/packet"
)

const allProtocols = 0x0003

// Wire sends and receives whole frames on a link.
type Wire struct{ conn *packet.Conn }

// OpenWire opens a link of the calling thread's namespace. listen says whether it is read from.
func OpenWire(ifindex int, listen bool) (*Wire, error) {
	protocol := 0
	if listen {
		protocol = allProtocols
	}
	c, err := packet.Listen(&net.Interface{Index: ifindex}, packet.Raw, protocol, nil)
	if err != nil {
		return nil, fmt.Errorf("open link %d for frames: %w", ifindex, err)
	}
	return &Wire{c}, nil
}

// Close ends it.
func (w *Wire) Close() error { return w.conn.Close() }

// Send sends a frame, its Ethernet header included.
func (w *Wire) Send(frame []byte) error {
	_, err := w.conn.WriteTo(frame, &packet.Addr{HardwareAddr: net.HardwareAddr(frame[:6])})
	return err
}

// Receive waits for a frame.
func (w *Wire) Receive(b []byte) (int, error) {
	n, _, err := w.conn.ReadFrom(b)
	return n, err
}

// Probe asks an instance again and again and calls f when it begins or ceases to answer, until ctx ends or the
// link goes. Misses in a row without an answer are a failure.
func (w *Wire) Probe(ctx context.Context, mac [6]byte, a netip.Addr, every time.Duration, misses int, f func(alive bool)) {
	from := mac
	from[0], from[5] = from[0]|2, ^from[5] // nobody's: only the answer's way back
	question := Question(from, mac, a)
	stop := context.AfterFunc(ctx, func() { _ = w.conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	buffer := make([]byte, 2048)
	missed, alive := 0, false
	for next := time.Now(); ctx.Err() == nil; next = next.Add(every) {
		if late := time.Since(next); late > every {
			next = next.Add(late) // a process that was stopped asks once, not for all it has slept over
		}
		err := w.Send(question)
		if err == nil {
			err = w.await(ctx, next.Add(every), buffer, a)
		}
		switch {
		case err == nil:
			missed = 0
			if !alive {
				alive = true
				f(true)
			}
		case errors.Is(err, os.ErrDeadlineExceeded):
			if missed++; missed == misses {
				alive = false
				f(false)
			}
		default:
			f(false)
			return
		}
		w.rest(ctx, time.Until(next.Add(every)))
	}
}

// await reads until the answer or the deadline.
func (w *Wire) await(ctx context.Context, deadline time.Time, buffer []byte, a netip.Addr) error {
	if err := w.conn.SetReadDeadline(deadline); err != nil {
		return err
	}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := w.Receive(buffer)
		if err != nil {
			return err
		}
		if Answers(buffer[:n], a) {
			return nil
		}
	}
}

func (w *Wire) rest(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
