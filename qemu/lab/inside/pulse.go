package main

import (
	"encoding/hex"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/ratchetos/ratchet/qemu/lab/load"
)

// pulse is the guest's connection to its lab.
type pulse struct {
	conn *net.UDPConn
	to   *net.UDPAddr
	name string
	id   [16]byte
	work work

	last load.Result // answer to the latest order
}

func newPulse(c load.Control) (*pulse, error) {
	id, err := hex.DecodeString(strings.ReplaceAll(c.Name, "-", ""))
	if err != nil || len(id) != 16 {
		return nil, fmt.Errorf("name %q is not a UUID", c.Name)
	}
	// Not connected: a route that is gone for a moment must not leave an error on the socket.
	conn, err := net.ListenUDP("udp4", nil)
	if err != nil {
		return nil, err
	}
	return &pulse{conn: conn, to: &net.UDPAddr{IP: net.ParseIP(load.HostAddress), Port: c.Port}, name: c.Name, id: [16]byte(id)}, nil
}

// beats sends one each interval. A beat that cannot be sent is lost, as it would be on the wire.
func (p *pulse) beats() {
	var buf []byte
	tick := time.NewTicker(load.Interval)
	for seq := uint64(1); ; seq++ {
		buf = load.Beat{Name: p.id, Seq: seq}.Append(buf[:0])
		_, _ = p.conn.WriteToUDP(buf, p.to)
		<-tick.C
	}
}

// orders are carried out one at a time; one that comes again is answered again.
func (p *pulse) orders() {
	buf := make([]byte, 2048)
	for {
		n, _, err := p.conn.ReadFromUDP(buf)
		if err != nil {
			continue // an ICMP error of an earlier datagram
		}
		o, err := load.ParseOrder(buf[:n])
		if err != nil || o.N < p.last.N {
			continue
		}
		if o.N > p.last.N {
			p.last = p.work.carryOut(o)
			p.last.N, p.last.Name = o.N, p.name
		}
		if b, err := load.Encode(p.last); err == nil {
			_, _ = p.conn.WriteToUDP(b, p.to)
		}
	}
}

// work is the guest's load.
type work struct {
	memory *memory
	disk   *disk
}

func (w *work) carryOut(o load.Order) (r load.Result) {
	var err error
	switch {
	case o.Memory != nil:
		if w.memory != nil {
			w.memory.end()
		}
		w.memory, err = startMemory(*o.Memory)
	case o.VerifyMemory && w.memory != nil:
		r = w.memory.verify()
	case o.Disk != nil:
		if w.disk != nil {
			w.disk.end()
		}
		w.disk, err = startDisk(*o.Disk)
	case o.VerifyDisk && w.disk != nil:
		r, err = w.disk.verify()
	default:
		err = fmt.Errorf("no load to verify")
	}
	if err != nil {
		r.Error = err.Error()
	}
	return r
}

// paced calls write rate times a second until stop is closed, in bursts of a hundredth of a second; then it closes done.
func paced(rate float64, stop <-chan struct{}, done chan<- struct{}, write func()) {
	defer close(done)
	const slice = 10 * time.Millisecond
	tick := time.NewTicker(slice)
	defer tick.Stop()
	for due := 0.0; ; {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		// What a slow machine has not managed is not made up for: it would never rest.
		for due += rate * slice.Seconds(); due >= 1; due-- {
			write()
		}
	}
}
