package control

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"
)

// kindHello has no handler: it only proves the host's address.
const kindHello = maxKind

// hintPause is the time between two hints that are followed.
const hintPause = time.Second

// Send sends a datagram. It may be lost.
func (c *Client) Send(kind uint8, payload []byte) error {
	j, err := c.sendable(kind, payload)
	if err != nil {
		return err
	}
	return c.send(j, kind, j.sent.Add(1), payload)
}

// Exchange sends a datagram and waits for the answer to just this one, until ctx ends. Either may be lost.
func (c *Client) Exchange(ctx context.Context, kind uint8, payload []byte) ([]byte, error) {
	j, err := c.sendable(kind, payload)
	if err != nil {
		return nil, err
	}
	seq := j.sent.Add(1)
	token := exchangeToken(j, seq)
	answer := make(chan []byte, 1)
	c.mu.Lock()
	if len(c.exchanges) >= maxPending {
		c.mu.Unlock()
		return nil, fmt.Errorf("exchange: %d are waiting already", maxPending)
	}
	c.exchanges[token] = answer
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.exchanges, token)
	}()
	if err := c.send(j, kind, seq, payload); err != nil {
		return nil, err
	}
	select {
	case b := <-answer:
		return b, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("exchange with %s: %w", c.o.Address, ctx.Err())
	}
}

// exchangeToken tells exchanges of different sessions apart.
func exchangeToken(j *joined, seq uint64) uint64 { return j.keys.id ^ seq }

func (c *Client) sendable(kind uint8, payload []byte) (*joined, error) {
	if kind == 0 || kind >= kindHello || len(payload) > MaxPayload {
		return nil, fmt.Errorf("send a datagram of kind %d with %d bytes: at most kind %d and %d bytes", kind, len(payload), kindHello-1, MaxPayload)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.last == nil {
		return nil, fmt.Errorf("send to %s: %w", c.o.Address, ErrNotJoined)
	}
	return c.last, nil
}

func (c *Client) send(j *joined, kind uint8, seq uint64, payload []byte) error {
	packets := c.packets.Load()
	if packets == nil {
		return fmt.Errorf("send to %s: %w", c.o.Address, ErrNotJoined)
	}
	b := j.keys.seal(make([]byte, 0, sealHeader+len(payload)+sealTag), kind, seq, payload)
	if _, err := (*packets).WriteTo(b, net.UDPAddrFromAddrPort(j.peer)); err != nil {
		return fmt.Errorf("send to %s: %w", c.o.Address, err)
	}
	return nil
}

// receive reads datagrams until the socket is closed. Who sent one is proved by its key, not by its address.
func (c *Client) receive(packets net.PacketConn) {
	in := make([]byte, maxDatagram+1)
	for {
		n, _, err := packets.ReadFrom(in)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			c.datagram(in[:n])
		}
	}
}

func (c *Client) datagram(b []byte) {
	h, _, err := parseHeader(b)
	if err != nil {
		return
	}
	c.mu.Lock()
	j := c.last
	c.mu.Unlock()
	if j == nil || j.keys.id != h.key {
		return
	}
	if h.kind == kindUnknown {
		c.hint(j)
		return
	}
	if !j.window.fresh(h.seq) {
		return
	}
	payload, err := j.keys.open(b, h.seq)
	if err != nil {
		return
	}
	j.window.accept(h.seq)
	if h.kind&replyBit == 0 {
		if handle := c.handlers[h.kind]; handle != nil {
			handle(payload)
		}
		return
	}
	if len(payload) < replyMark {
		return
	}
	token := exchangeToken(j, binary.BigEndian.Uint64(payload))
	c.mu.Lock()
	answer := c.exchanges[token]
	delete(c.exchanges, token)
	c.mu.Unlock()
	if answer != nil {
		answer <- append([]byte(nil), payload[replyMark:]...)
	}
}

// hint joins again when the box says that it does not know the key. Anyone on the way can say so; the cost is bounded.
func (c *Client) hint(j *joined) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); c.joined == j && now.Sub(c.hinted) >= hintPause {
		c.hinted = now
		j.conn.Close()
	}
}
