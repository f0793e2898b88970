package xdr

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"
)

// TestForm holds the encoding against bytes written down by hand from RFC 4506.
func TestForm(t *testing.T) {
	for _, c := range []struct {
		name   string
		encode func(e *Encoder)
		want   string
	}{
		{"int", func(e *Encoder) { e.Int32(-2) }, "fffffffe"},
		{"hyper", func(e *Encoder) { e.Uint64(1 << 40) }, "0000010000000000"},
		{"double", func(e *Encoder) { e.Double(1) }, "3ff0000000000000"},
		{"string is filled up", func(e *Encoder) { e.String("hello") }, "0000000568656c6c6f000000"},
		{"string of four is not", func(e *Encoder) { e.String("four") }, "00000004666f7572"},
		{"empty string", func(e *Encoder) { e.String("") }, "00000000"},
		{"absent string", func(e *Encoder) { e.Optional("") }, "00000000"},
		{"optional string", func(e *Encoder) { e.Optional("a") }, "000000010000000161000000"},
		{"fixed opaque has no length", func(e *Encoder) { e.Fixed([]byte{1, 2, 3}) }, "01020300"},
		{"opaque", func(e *Encoder) { e.Opaque([]byte{9}) }, "0000000109000000"},
	} {
		var e Encoder
		c.encode(&e)
		if got := hex.EncodeToString(e.Bytes()); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	var e Encoder
	e.Int32(-7)
	e.Uint64(1 << 63)
	e.Double(0.25)
	e.Bool(true)
	e.Fixed([]byte("0123456789abcdef"))
	e.Opaque([]byte("cookie"))
	e.String("näme")
	e.Optional("")
	e.Optional("there")
	d := NewDecoder(e.Bytes())
	var uuid [16]byte
	a, b, c, f := d.Int32(), d.Uint64(), d.Double(), d.Bool()
	d.Fixed(uuid[:])
	o, s, p, q := d.Opaque(6), d.String(5), d.Optional(9), d.Optional(5)
	if err := d.End(); err != nil {
		t.Fatal(err)
	}
	if a != -7 || b != 1<<63 || c != 0.25 || !f || string(uuid[:]) != "0123456789abcdef" ||
		!bytes.Equal(o, []byte("cookie")) || s != "näme" || p != "" || q != "there" {
		t.Error(a, b, c, f, uuid, o, s, p, q)
	}
}

func TestRefused(t *testing.T) {
	for _, c := range []struct {
		name   string
		in     string
		decode func(d *Decoder)
		want   error
	}{
		{"short int", "0000", func(d *Decoder) { d.Uint32() }, ErrShort},
		{"short string", "0000000561", func(d *Decoder) { d.String(10) }, ErrShort},
		{"string without its filling", "0000000161", func(d *Decoder) { d.String(10) }, ErrShort},
		{"long string", "00000005", func(d *Decoder) { d.String(4) }, ErrLong},
		{"length over 31 bits", "ffffffff", func(d *Decoder) { d.Opaque(1 << 20) }, ErrLong},
		{"long list", "00000003", func(d *Decoder) { d.Len(2, 4) }, ErrLong},
		{"list that the message cannot hold", "00000003", func(d *Decoder) { d.Len(100, 4) }, ErrShort},
		{"boolean", "00000002", func(d *Decoder) { d.Bool() }, ErrBool},
		{"rest", "0000000100000001", func(d *Decoder) { d.Bool() }, ErrRest},
		{"the first error stays", "00000005", func(d *Decoder) { d.String(4); d.Uint64() }, ErrLong},
	} {
		in, err := hex.DecodeString(c.in)
		if err != nil {
			t.Fatal(err)
		}
		d := NewDecoder(in)
		c.decode(d)
		if err := d.End(); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

// FuzzDecode takes values in the order that the first bytes ask for: nothing panics, and nothing is longer than the input.
func FuzzDecode(f *testing.F) {
	f.Add([]byte{6, 6}, []byte{0, 0, 0, 1, 'a', 0, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{0, 1, 2, 3, 4, 5, 7, 8}, bytes.Repeat([]byte{0, 0, 0, 1}, 20))
	f.Add([]byte{8}, []byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, plan, in []byte) {
		d, got := NewDecoder(in), 0
		for _, p := range plan {
			switch p % 9 {
			case 0:
				d.Uint32()
			case 1:
				d.Uint64()
			case 2:
				d.Double()
			case 3:
				d.Bool()
			case 4:
				var b [16]byte
				d.Fixed(b[:])
			case 5:
				got += len(d.Opaque(1 << 20))
			case 6:
				got += len(d.String(1 << 20))
			case 7:
				got += len(d.Optional(1 << 20))
			case 8:
				got += d.Len(1<<20, 1)
			}
		}
		if len(plan) < 2 && got > len(in) {
			t.Errorf("%d bytes out of %d", got, len(in))
		}
		_ = d.End()
	})
}
