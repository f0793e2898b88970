package table

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/plugins/internal/packet"
)

// pair is two balancers with the same VIPs and backends. The second one's ring sends everything to the first backend,
// so a flow that it does not know is seen.
func pair(t *testing.T, o Options) (a, b *rig) {
	a = newRig(t, o, 20)
	key := a.Key()
	o.Key = &key
	b = newRig(t, o, 20)
	for _, v := range b.vips {
		b.setRing(v, b.backends[:1])
	}
	return a, b
}

// TestEventsCarryFlows: what one balancer tells makes the other one go on with its flows, IPv6 among them.
func TestEventsCarryFlows(t *testing.T) {
	a, b := pair(t, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	events, ready := make(chan FlowEvent, 1000), make(chan struct{})
	done := make(chan error, 1)
	go func() {
		done <- a.events(ctx, func() { close(ready) }, func(batch []FlowEvent) {
			for _, e := range batch {
				events <- e
			}
		})
	}()
	<-ready
	c := newCrowd(t, a, 300)
	c6 := conn{netip.AddrPortFrom(client6, 4000), netip.AddrPortFrom(vip6, 80), 1}
	at6 := a.establish(c6)
	var records []FlowRecord
	for range 301 {
		e := <-events
		if e.Kind != FlowEstablished || e.Protocol != 6 || e.Local.Port() != 80 {
			t.Fatalf("event %+v", e)
		}
		records = append(records, FlowRecord{VIP: e.VIP, Client: e.Client, Local: e.Local, Protocol: e.Protocol, Backend: e.Backend, State: Established})
	}
	if n, err := b.InsertFlows(records); n != 301 || err != nil {
		t.Fatalf("%d of 301 entered, %v", n, err)
	}
	c.rig = b
	if n := c.moved(1); n != 0 {
		t.Errorf("%d flows moved to the other balancer's choice", n)
	}
	if to := b.to(b.send(c6.tcp(packet.ACK, ""))); to != at6 {
		t.Errorf("IPv6 flow went to %v, then to %v", at6, to)
	}
	a.send(c6.tcp(packet.FIN|packet.ACK, ""))
	if e := <-events; e.Kind != FlowClosing || e.Client != c6.src {
		t.Errorf("FIN made %+v", e)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n, err := b.InsertFlows([]FlowRecord{{VIP: 99, Client: c6.src, Local: c6.dst, Backend: 1}, {VIP: b.vips[0], Client: c6.src, Local: c.conns[0].dst, Backend: 1}, {VIP: b.vips[1], Client: c6.src, Local: c6.dst, Backend: 999}}); n != 0 || err == nil {
		t.Errorf("flows of nothing that is here: %d entered, %v", n, err)
	}
}

// TestExport: a balancer that joins gets the whole table at once.
func TestExport(t *testing.T) {
	a, b := pair(t, Options{Flows: 1 << 14})
	if a.Key() != b.Key() || a.Lines() != b.Lines() {
		t.Fatal("the two cannot exchange entries")
	}
	c := newCrowd(t, a, 15_800) // so full that some are in the overflow table
	if a.Count().Overflow == 0 {
		t.Error("nothing in the overflow table")
	}
	a.send(client(1<<20).tcp(packet.SYN, "")) // half-open: not worth keeping
	flows := slices.Collect(a.Export())
	if len(flows) != len(c.conns) {
		t.Errorf("%d flows exported of %d", len(flows), len(c.conns))
	}
	if n, err := b.Import(flows); n != len(flows) || err != nil {
		t.Fatalf("%d of %d entered, %v", n, len(flows), err)
	}
	c.rig = b
	if n := c.moved(1); n != 0 {
		t.Errorf("%d flows moved", n)
	}
	if n, err := b.Import([]RawFlow{{Print: 1 << 40, Backend: 1}, {Backend: 77}, {Backend: 1, State: 9}}); n != 0 || err == nil {
		t.Errorf("impossible flows: %d entered, %v", n, err)
	}
}

// TestImportOverEntry: another balancer's entry of a flow that is here, too, changes a settled one's state if it was seen
// later; of two that were seen at once the state stays that is forgotten sooner.
func TestImportOverEntry(t *testing.T) {
	r := newRig(t, Options{}, 1)
	const unit = time.Duration(1) << 34
	of := func(s FlowState, idle time.Duration) RawFlow {
		return RawFlow{Print: 7, Backend: r.backends[0], State: s, Idle: idle}
	}
	for _, c := range []struct {
		name         string
		here, theirs RawFlow
		want         FlowState
	}{
		{"later, closing", of(Established, unit), of(Brief, 0), Brief},
		{"later, open again", of(Brief, unit), of(Established, 0), Established},
		{"at once, closing", of(Established, unit), of(Brief, unit), Brief},
		{"at once, not closing", of(Brief, unit), of(Established, unit), Brief},
		{"earlier, closing", of(Established, 0), of(Brief, unit), Established},
		{"earlier, not closing", of(Brief, 0), of(Established, unit), Brief},
		{"earlier, settled", of(Tentative, 0), of(Established, unit), Established},
	} {
		r.forget()
		if n, err := r.Import([]RawFlow{c.here, c.theirs}); n != 2 || err != nil {
			t.Fatalf("%s: %d entered, %v", c.name, n, err)
		}
		flows := slices.Collect(r.Flows())
		if len(flows) != 1 || flows[0].State != c.want {
			t.Errorf("%s: %+v, want %v", c.name, flows, c.want)
		}
	}
}

// TestPeersNewConnection: a client that has closed takes its port again, and the other balancer sends the new connection to
// another backend: that one is known here, too, whether told at once or by the exchange of tables.
func TestPeersNewConnection(t *testing.T) {
	const unit = time.Duration(1) << 34
	for _, c := range []struct {
		name string
		tell func(r *rig, c conn, b BackendID) (int, error)
	}{
		{"told", func(r *rig, c conn, b BackendID) (int, error) {
			return r.InsertFlows([]FlowRecord{{VIP: r.vips[0], Client: c.src, Local: c.dst, Protocol: 6, Backend: b, State: Established}})
		}},
		{"exported", func(r *rig, c conn, b BackendID) (int, error) {
			f := slices.Collect(r.Export())[0]
			for line := range r.shared.flows.Elems { // as if it had closed a while ago
				for slot, e := range r.line(line) {
					r.shared.flows.Elems[line].Entry[slot] = uint64(e) - 2<<23
				}
			}
			return r.Import([]RawFlow{{Line: f.Line, Print: f.Print, Backend: b, State: Established, Idle: unit}})
		}},
	} {
		r := newRig(t, Options{}, 10)
		flow := client(1)
		at := r.establish(flow)
		other := r.backends[9]
		if backendAddress(9) == at {
			other = r.backends[8]
		}
		if n, err := c.tell(r, flow, other); n != 1 || err != nil {
			t.Fatalf("%s: %d entered, %v", c.name, n, err)
		}
		if to := r.to(r.send(flow.tcp(packet.ACK, ""))); to != at {
			t.Errorf("%s: an open connection moved from %v to %v", c.name, at, to)
		}
		r.send(flow.tcp(packet.FIN|packet.ACK, ""))
		if n, err := c.tell(r, flow, other); n != 1 || err != nil {
			t.Fatalf("%s: %d entered, %v", c.name, n, err)
		}
		if to := r.to(r.send(flow.tcp(packet.ACK, ""))); to == at || !to.IsValid() {
			t.Errorf("%s: the new connection went to %v, the former one's backend", c.name, to)
		}
	}
}

// TestKeyStaysWithFlows: another balancer's key is adopted only while there is nothing to lose.
func TestKeyStaysWithFlows(t *testing.T) {
	pins, key := bpffs(t), NewKey()
	r := newRig(t, Options{Pins: pins}, 3)
	own := r.Key()
	r.must(r.Close())
	r = &rig{TB: t, Table: open(t, Options{Pins: pins, Key: &key})}
	if r.Key() != key {
		t.Error("an empty table did not adopt the key")
	}
	r.setVIPs(VIP{Address: vip4, Protocol: TCP, First: 80, Last: 80})
	newCrowd(t, r, 10)
	r.must(r.Close())
	r = &rig{TB: t, Table: open(t, Options{Pins: pins, Key: &own})}
	if r.Key() != key {
		t.Error("a table with flows gave its key up")
	}
}

// TestCapture: packets of a VIP, and packets that were dropped for a reason, as a file that says what they were.
func TestCapture(t *testing.T) {
	r := newRig(t, Options{}, 3)
	capture := func(f Filter, limit int, send func()) [][]byte {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var file bytes.Buffer
		ready, done := make(chan struct{}), make(chan int)
		go func() {
			n, err := r.capture(ctx, func() { close(ready) }, f, limit, &file)
			if err != nil {
				t.Error(err)
			}
			done <- n
		}()
		<-ready
		if _, err := r.Capture(ctx, f, 1, &file); !errors.Is(err, ErrCapturing) {
			t.Errorf("a second capture at once: %v", err)
		}
		send()
		n := <-done
		b := file.Bytes()[24:]
		var packets [][]byte
		for len(b) > 0 {
			kept, length := binary.LittleEndian.Uint32(b[8:]), binary.LittleEndian.Uint32(b[12:])
			if kept > length {
				t.Fatalf("kept %d of %d", kept, length)
			}
			packets, b = append(packets, b[16:16+kept]), b[16+kept:]
		}
		if n != len(packets) {
			t.Errorf("%d packets, %d in the file", n, len(packets))
		}
		return packets
	}
	syn, bad := client(1).tcp(packet.SYN, ""), tcp80(to4, 0, nil)
	got := capture(Filter{VIP: r.vips[0]}, 2, func() {
		r.send(tcp80(to6, packet.SYN, nil)) // another VIP
		r.send(syn)
		r.send(client(1).tcp(packet.ACK, string(big(1000))))
		r.send(syn) // beyond the limit
	})
	if len(got) != 2 || len(got[0]) != len(syn)+20 || len(got[1]) != 256 || !bytes.Equal(got[0][34:], syn[14:]) {
		t.Errorf("captured %d packets: % x", len(got), got)
	}
	flags, ok := ReasonByName("bad flags")
	if !ok {
		t.Fatal("no such reason")
	}
	got = capture(Filter{Reason: flags}, 1, func() {
		r.send(syn)
		r.send(bad)
	})
	if len(got) != 1 || !bytes.Equal(got[0], bad) {
		t.Errorf("captured % x, want % x", got, bad)
	}
	if r.control().Capture != 0 {
		t.Error("the capture did not end")
	}
}
