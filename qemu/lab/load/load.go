// Package load is the language between a lab and the load in its guests.
//
// A guest is told who it is over a virtio-serial port ([Control]); it then sends a [Beat] every [Interval] to its lab.
// Orders go back on the same path, to wherever the last beat came from, and are answered there. An order lost on the way is
// sent again under its number and carried out once.
package load

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"time"
)

const (
	// Port is the name of the virtio-serial port on which a guest gets its Control, as a line of JSON.
	Port = "org.ratchet.lab.0"
	// Interval is the time between two beats.
	Interval = 5 * time.Millisecond
	// PageSize is the unit of the memory load, in bytes.
	PageSize = 4096
	// BlockSize is that of the disk load.
	BlockSize = 4096
)

// Addresses of the guest's network, which are those of QEMU's user network.
const (
	GuestAddress = "10.0.2.15"
	HostAddress  = "10.0.2.2"
)

// Control tells a guest who it is. A guest that was restored from a saved state has the memory of all others restored
// from it: Name is how they differ, and becomes the boot ID that its agent reports.
type Control struct {
	Name string `json:"name"` // a UUID
	Port int    `json:"port"` // of the host
}

// Beat is one heartbeat.
type Beat struct {
	Name [16]byte // of the guest
	Seq  uint64   // from 1
}

const beatSize = 4 + 16 + 8

// beatMagic is not JSON: answers to orders share the path.
const beatMagic = "BEAT"

// Append encodes the beat.
func (b Beat) Append(to []byte) []byte {
	to = append(to, beatMagic...)
	to = append(to, b.Name[:]...)
	return binary.BigEndian.AppendUint64(to, b.Seq)
}

// ParseBeat decodes one; other datagrams are answers to orders.
func ParseBeat(b []byte) (Beat, bool) {
	if len(b) != beatSize || string(b[:4]) != beatMagic {
		return Beat{}, false
	}
	return Beat{Name: [16]byte(b[4:20]), Seq: binary.BigEndian.Uint64(b[20:])}, true
}

// Order is what the lab asks of a guest: one of the fields.
type Order struct {
	N uint64 `json:"n"` // number; each is carried out once
	// Memory sets the load on memory, VerifyMemory stops it and reads every page.
	Memory       *Memory `json:"memory,omitempty"`
	VerifyMemory bool    `json:"verify_memory,omitempty"`
	// Disk sets the load on a disk, VerifyDisk stops it and reads every block.
	Disk       *Disk `json:"disk,omitempty"`
	VerifyDisk bool  `json:"verify_disk,omitempty"`
}

// Memory is a load on memory: Pages are filled with what cannot be compressed, and Rate bytes a second are rewritten, page
// after page. 0 pages ends the load and frees them.
type Memory struct {
	Pages int   `json:"pages"`
	Rate  int64 `json:"rate"`
}

// Disk is a load on the first Blocks of a disk, of which Rate a second are written, each with a flush of its own.
type Disk struct {
	Serial string `json:"serial"`
	Blocks int    `json:"blocks"`
	Rate   int    `json:"rate"`
}

// Result answers an order.
type Result struct {
	N     uint64 `json:"n"`
	Name  string `json:"name"`
	Error string `json:"error,omitempty"`
	// Checked pages or blocks, Bad ones of them, and how many were written since the load was set.
	Checked int    `json:"checked,omitempty"`
	Bad     int    `json:"bad,omitempty"`
	Written uint64 `json:"written,omitempty"`
}

// Encode makes a datagram of an Order or a Result.
func Encode(v any) ([]byte, error) { return json.Marshal(v) }

// ParseOrder decodes one.
func ParseOrder(b []byte) (Order, error) {
	var o Order
	err := json.Unmarshal(b, &o)
	if err == nil && o.N == 0 {
		err = errors.New("order without a number")
	}
	return o, err
}

// Fill writes what a page or block with that number holds in that version: number, version, and words that follow from
// both.
func Fill(b []byte, number, version uint64) {
	x := seed(number, version)
	binary.LittleEndian.PutUint64(b, number)
	binary.LittleEndian.PutUint64(b[8:], version)
	for i := 16; i+8 <= len(b); i += 8 {
		x = next(x)
		binary.LittleEndian.PutUint64(b[i:], x)
	}
}

// Holds reports whether b is what Fill writes.
func Holds(b []byte, number, version uint64) bool {
	if binary.LittleEndian.Uint64(b) != number || binary.LittleEndian.Uint64(b[8:]) != version {
		return false
	}
	x := seed(number, version)
	for i := 16; i+8 <= len(b); i += 8 {
		if x = next(x); binary.LittleEndian.Uint64(b[i:]) != x {
			return false
		}
	}
	return true
}

func seed(number, version uint64) uint64 {
	return number*0x9e3779b97f4a7c15 ^ version*0xbf58476d1ce4e5b9 | 1
}

// next is xorshift64, which never reaches 0 from an odd number.
func next(x uint64) uint64 {
	x ^= x << 13
	x ^= x >> 7
	return x ^ x<<17
}
