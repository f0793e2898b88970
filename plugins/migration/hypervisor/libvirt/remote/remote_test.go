package remote

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"reflect"
	"testing"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/libvirt/rpc"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/libvirt/xdr"
)

// answer is what a daemon replies to a procedure: a payload, or an error.
type answer struct {
	payload func(e *xdr.Encoder)
	refused string
}

func number(v int32) answer {
	return answer{payload: func(e *xdr.Encoder) { e.Int32(v) }}
}

var nothing = answer{payload: func(*xdr.Encoder) {}}

// polite are the answers of a daemon that lets everybody in.
func polite(changes map[procedure]answer) map[procedure]answer {
	script := map[procedure]answer{
		authList: {payload: func(e *xdr.Encoder) { e.Uint32(1); e.Int32(authNone) }}, connectSupportsFeature: number(1),
		connectOpen: nothing, connectEventRegister: number(0), connectClose: nothing,
	}
	for p, a := range changes {
		script[p] = a
	}
	return script
}

// serve answers calls until the connection ends. What it is asked is written down.
func serve(t *testing.T, nc net.Conn, script map[procedure]answer, asked *[]procedure) {
	for {
		var length [4]byte
		if _, err := io.ReadFull(nc, length[:]); err != nil {
			return
		}
		b := make([]byte, binary.BigEndian.Uint32(length[:])-4)
		if _, err := io.ReadFull(nc, b); err != nil {
			return
		}
		d := xdr.NewDecoder(b[:24])
		program, version, p, _, serial := d.Uint32(), d.Uint32(), procedure(d.Int32()), d.Int32(), d.Uint32()
		*asked = append(*asked, p)
		a, ok := script[p]
		if !ok {
			t.Errorf("unexpected call of %d", p)
			nc.Close()
			return
		}
		send(nc, program, version, int32(p), 1, serial, a)
	}
}

func send(nc net.Conn, program, version uint32, p, kind int32, serial uint32, a answer) {
	var body, head xdr.Encoder
	status := int32(0)
	if a.payload != nil {
		a.payload(&body)
	} else {
		status = 1
		body.Int32(1)
		body.Int32(10)
		body.Optional(a.refused)
		for range 8 { // level, no domain, three strings, two numbers, no network
			body.Int32(0)
		}
	}
	head.Uint32(uint32(28 + len(body.Bytes())))
	head.Uint32(program)
	head.Uint32(version)
	head.Int32(p)
	head.Int32(kind)
	head.Uint32(serial)
	head.Int32(status)
	_, _ = nc.Write(append(head.Bytes(), body.Bytes()...))
}

// open says hello to a daemon with a script.
func open(t *testing.T, script map[procedure]answer, o Options) (*Conn, net.Conn, *[]procedure, error) {
	here, there := net.Pipe()
	asked := &[]procedure{}
	go serve(t, there, script, asked)
	c, err := Open(t.Context(), here, o)
	if err == nil {
		t.Cleanup(func() { c.Close() })
	}
	return c, there, asked, err
}

func TestHello(t *testing.T) {
	auth := func(kinds ...int32) answer {
		return answer{payload: func(e *xdr.Encoder) {
			e.Uint32(uint32(len(kinds)))
			for _, k := range kinds {
				e.Int32(k)
			}
		}}
	}
	for _, c := range []struct {
		name    string
		changes map[procedure]answer
		asked   []procedure
		want    error
		refused bool
	}{
		{name: "open door", asked: []procedure{authList, connectSupportsFeature, connectOpen}},
		{name: "polkit", changes: map[procedure]answer{authList: auth(authWithPolkit), authPolkit: number(0)}, asked: []procedure{authList, authPolkit, connectSupportsFeature, connectOpen}},
		{name: "no question", changes: map[procedure]answer{authList: auth()}, asked: []procedure{authList, connectSupportsFeature, connectOpen}},
		{name: "password", changes: map[procedure]answer{authList: auth(1)}, want: ErrAuth},
		{name: "more ways than there are", changes: map[procedure]answer{authList: auth(make([]int32, 21)...)}, want: xdr.ErrLong},
		{name: "refused by polkit", changes: map[procedure]answer{authList: auth(authWithPolkit), authPolkit: {refused: "no"}}, refused: true},
		{name: "no such driver", changes: map[procedure]answer{connectOpen: {refused: "no driver"}}, asked: []procedure{authList, connectSupportsFeature, connectOpen, connectOpen}, refused: true},
		{name: "answer that goes on", changes: map[procedure]answer{connectSupportsFeature: {payload: func(e *xdr.Encoder) { e.Uint64(1) }}}, want: rpc.ErrProtocol},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _, asked, err := open(t, polite(c.changes), Options{})
			if _, refused := errors.AsType[*rpc.Error](err); refused != c.refused || c.want != nil && !errors.Is(err, c.want) || c.want == nil && !refused && err != nil {
				t.Errorf("%v", err)
			}
			if c.asked != nil && !reflect.DeepEqual(*asked, c.asked) {
				t.Errorf("asked %v, want %v", *asked, c.asked)
			}
		})
	}
}

// lifecycle is an event's payload.
func lifecycle(e *xdr.Encoder) {
	e.Int32(0)
	Domain{Name: "vm", ID: 3}.encode(e)
	e.Int32(Stopped)
	e.Int32(3)
}

// TestEventsNotTaken: a connection whose events nobody takes ends.
func TestEventsNotTaken(t *testing.T) {
	c, nc, _, err := open(t, polite(nil), Options{Events: true})
	if err != nil {
		t.Fatal(err)
	}
	for range queue + 1 {
		send(nc, remoteProgram, 1, int32(eventLifecycle), 2, 0, answer{payload: lifecycle})
	}
	<-c.Done()
	if !errors.Is(c.Err(), ErrEvents) {
		t.Error(c.Err())
	}
	want := Event{Domain: Domain{Name: "vm", ID: 3}, Kind: EventLifecycle, Change: Stopped, Detail: 3}
	if got := <-c.Events(); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestParams(t *testing.T) {
	p := Params{{"i", int32(-1)}, {"u", uint32(2)}, {"l", int64(-3)}, {"ul", uint64(4)}, {"d", 0.5}, {"b", true}, {"s", "x"}, {"s", "y"}}
	var e xdr.Encoder
	p.encode(&e)
	d := xdr.NewDecoder(e.Bytes())
	if got := decodeParams(d); d.End() != nil || !reflect.DeepEqual(got, p) {
		t.Errorf("%v, %v", got, d.End())
	}
	if p.Uint("u") != 2 || p.Uint("ul") != 4 || p.Uint("i") != 0 || p.Uint("l") != 0 || p.Uint("s") != 0 || p.Uint("none") != 0 {
		t.Error("numbers")
	}
	e = xdr.Encoder{}
	e.Uint32(1)
	e.String("x")
	e.Int32(99)
	e.Int32(0)
	d = xdr.NewDecoder(e.Bytes())
	if decodeParams(d); !errors.Is(d.End(), errParam) {
		t.Error(d.End())
	}
}

// FuzzDecode: no answer or event does harm, whatever it was to be.
func FuzzDecode(f *testing.F) {
	var e, p xdr.Encoder
	lifecycle(&e)
	f.Add(e.Bytes())
	Params{{"a", uint64(1)}, {"b", "x"}}.encode(&p)
	f.Add(p.Bytes())
	f.Fuzz(func(t *testing.T, in []byte) {
		for _, number := range []procedure{eventLifecycle, eventDeviceRemoved, eventDeviceRemovalFailed, connectOpen} {
			if ev, ok := parseEvent(number.id(), in); ok && len(ev.Domain.Name)+len(ev.Device) > len(in) {
				t.Error("an event is longer than what it was made of")
			}
		}
		d := xdr.NewDecoder(in)
		if list := decodeParams(d); len(list) > len(in) {
			t.Error("more parameters than bytes")
		}
	})
}
