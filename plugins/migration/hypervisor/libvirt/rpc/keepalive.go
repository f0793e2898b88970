package rpc

import (
	"errors"
	"fmt"
	"time"
)

// The keepalive program has two messages without content.
const (
	keepAliveProgram = 0x6b656570
	keepAlivePing    = 1
	keepAlivePong    = 2
	keepAliveTries   = 3
)

// ErrSilent is why a connection ended whose daemon gave no sign of life.
var ErrSilent = errors.New("the daemon gives no sign of life")

// keepAlive asks for signs of life until the connection ends. Any message is one.
func (c *Conn) keepAlive() {
	tick := time.NewTicker(c.opts.KeepAlive)
	defer tick.Stop()
	for missed := 0; ; {
		select {
		case <-c.done:
			return
		case <-tick.C:
		}
		c.mu.Lock()
		alive := c.alive
		c.alive = false
		c.mu.Unlock()
		if missed++; alive {
			missed = 0
		}
		if missed >= keepAliveTries {
			c.End(fmt.Errorf("%w for %v", ErrSilent, keepAliveTries*c.opts.KeepAlive))
			return
		}
		if !alive && c.write(keepAliveMessage(keepAlivePing)) != nil {
			return
		}
	}
}

// pong answers a daemon's question. Its own answers need nothing: that they came is all they say.
func (c *Conn) pong(m message) error {
	if m.proc.Number != keepAlivePing {
		return nil
	}
	return c.write(keepAliveMessage(keepAlivePong))
}

func keepAliveMessage(number int32) message {
	return message{header: header{proc: Proc{keepAliveProgram, 1, number}, kind: typeMessage}}
}
