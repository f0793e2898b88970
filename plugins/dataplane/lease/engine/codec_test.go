package engine

import (
	"bytes"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
)

// messages are one of each kind, the largest that there can be.
func messages() []any {
	long := strings.Repeat("x", MaxName)
	target := Target{Host: netip.MustParseAddr("2001:db8::1"), VNI: 1<<24 - 1, MAC: [6]byte{2, 0, 0, 0, 0, 1}}
	w := Want{Run: 1, Seq: 2, Service: long, Leases: MaxLeases}
	g := Grant{Seq: 3, Service: long, Status: Wait, TTL: MaxTTL, Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1"), target.Host}}
	for i := range MaxLeases {
		name := long[1:] + string(rune('a'+i))
		w.Held = append(w.Held, Held{Producer: name, Token: uint64(i)})
		w.Failed = append(w.Failed, name)
		g.Leases = append(g.Leases, Lease{Producer: name, Token: uint64(i), Epoch: 4, TTL: time.Second, Draining: i%2 == 0, Target: target})
	}
	return []any{
		w, g,
		Want{Service: "s"},
		Grant{Service: "s"},
		Nudge{Service: "s"},
		Hold{
			Run: 1, Seq: 2, Echo: Stamp{3, time.Hour}, Service: long, Producer: long, Epoch: 4,
			Share: 5, Keep: true, State: Gone, Target: target,
		},
		Ack{
			Seq: 1, Stamp: Stamp{2, time.Hour}, Service: long, Producer: long, Status: Refused, TTL: time.Second, Highest: 3,
			Holder: long, VNI: 7, Quota: 4, Share: 5, Leased: 6,
		},
	}
}

func TestCodec(t *testing.T) {
	for _, m := range messages() {
		b, err := Encode(m)
		if err != nil {
			t.Fatalf("encode %T: %v", m, err)
		}
		got, err := Decode(b)
		if err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("decoded %+v, %v, want %+v", got, err, m)
		}
		for n := range b {
			if _, err := Decode(b[:n]); !errors.Is(err, ErrMessage) {
				t.Fatalf("%T cut to %d of %d bytes: %v, want %v", m, n, len(b), err, ErrMessage)
			}
		}
		if _, err := Decode(append(b, 0)); !errors.Is(err, ErrMessage) {
			t.Errorf("%T with a byte more: %v, want %v", m, err, ErrMessage)
		}
		b[0]++
		if _, err := Decode(b); !errors.Is(err, ErrMessage) || !strings.Contains(err.Error(), "update") {
			t.Errorf("another version: %v, want a word about updating", err)
		}
	}
}

func TestEncodeRefuses(t *testing.T) {
	target := Target{Host: netip.MustParseAddr("10.0.0.1")}
	for name, m := range map[string]any{
		"nameless service": Want{},
		"terminal codes":   Want{Service: "\x1b[2J"},
		"long name":        Want{Service: strings.Repeat("x", MaxName+1)},
		"too many leases":  Want{Service: "s", Held: make([]Held, MaxLeases+1)},
		"negative TTL":     Grant{Service: "s", TTL: -1},
		"endless TTL":      Grant{Service: "s", TTL: MaxTTL + 1},
		"no host":          Hold{Service: "s", Producer: "p"},
		"zone":             Hold{Service: "s", Producer: "p", Target: Target{Host: netip.MustParseAddr("fe80::1%eth0")}},
		"no message":       target,
	} {
		if _, err := Encode(m); !errors.Is(err, ErrMessage) {
			t.Errorf("%s: %v, want %v", name, err, ErrMessage)
		}
	}
}

// FuzzDecode: nothing panics, and what is accepted is the one form of its content.
func FuzzDecode(f *testing.F) {
	for _, m := range messages() {
		b, err := Encode(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Decode(b)
		if err != nil {
			return
		}
		again, err := Encode(m)
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x decodes to %+v, which is %x: %v", b, m, again, err)
		}
		// Whoever sent it: engines take it without harm.
		book := NewBook(BookOptions{Run: 1})
		book.Configure([]Service{{Name: "s", VNI: 1, TTL: time.Second}})
		switch m := m.(type) {
		case Want:
			book.Want(0, "h", m)
		case Hold:
			book.Hold(0, "h", m)
		case Grant:
			set := NewSet(SetOptions{Service: "s", Leases: 2, Agents: 1, Jitter: func() float64 { return 0 }})
			set.Step(0)
			set.Granted(0, 0, m)
			set.Step(time.Second)
		case Ack:
			shares := NewShares(SharesOptions{Quota: 1, Agents: 1, Host: "h"})
			shares.Step(0)
			shares.Acked(0, 0, m)
			shares.Step(time.Second)
		}
	})
}
