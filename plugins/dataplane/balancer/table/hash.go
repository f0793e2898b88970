package table

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
)

// Key makes the flow hash unpredictable. Two balancers that exchange raw entries have the same.
// It is the C struct hash_key: constant, ports, tag and four words of address, for line and for print.
type Key [2][7]uint64

// NewKey draws one.
func NewKey() Key {
	var b [len(Key{}) * 7 * 8]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the process instead
	var k Key
	for i := range k {
		for j := range k[i] {
			k[i][j] = binary.LittleEndian.Uint64(b[(i*7+j)*8:])
		}
	}
	return k
}

// words are an address as the program loads it: four 32-bit words in wire order, one for IPv4.
func words(a netip.Addr) (w [4]uint32, n int) {
	if a.Is4() {
		b := a.As4()
		w[0] = binary.LittleEndian.Uint32(b[:])
		return w, 1
	}
	b := a.As16()
	for i := range w {
		w[i] = binary.LittleEndian.Uint32(b[4*i:])
	}
	return w, 4
}

// address is the opposite of words.
func address(w [4]uint32, family uint8) netip.Addr {
	var b [16]byte
	for i := range w {
		binary.LittleEndian.PutUint32(b[4*i:], w[i])
	}
	if family == 4 {
		return netip.AddrFrom4([4]byte(b[:4]))
	}
	return netip.AddrFrom16(b)
}

// ports are both of a packet as the program loads them.
func ports(client, local uint16) uint32 {
	var b [4]byte
	binary.BigEndian.PutUint16(b[:], client)
	binary.BigEndian.PutUint16(b[2:], local)
	return binary.LittleEndian.Uint32(b[:])
}

// flow is flow_hash4 and flow_hash6 of bpf/headers/hash.h.
func (k *Key) flow(client netip.AddrPort, local uint16, tag uint32) uint64 {
	w, n := words(client.Addr())
	p := ports(client.Port(), local)
	var sum [2]uint64
	for h := range sum {
		sum[h] = k[h][0] + k[h][1]*uint64(p) + k[h][2]*uint64(tag)
		for i := range n {
			sum[h] += k[h][3+i] * uint64(w[i])
		}
	}
	return sum[0]&^0xffffffff | sum[1]>>32
}

// host is host_tag of bpf/lb/vip.h, with one half of the key or the other.
func (k *Key) host(a netip.Addr, half int) uint32 {
	w, n := words(a)
	var sum uint64
	for i := range n {
		sum += k[half][3+i] * uint64(w[i])
	}
	return uint32(sum>>32) | 1
}

// tag stands for a VIP in the hash of its flows: made of what the VIP is, so it is the same on every balancer.
func (v VIP) tag() uint32 {
	b := v.Address.As16()
	sum := sha256.Sum256(append(b[:], byte(v.Protocol), byte(v.First>>8), byte(v.First), byte(v.Last>>8), byte(v.Last)))
	return binary.LittleEndian.Uint32(sum[:])
}

// key stands for a backend in its record, to be found again after a restart.
func (b Backend) key() uint64 {
	a := b.Address.As16()
	sum := sha256.Sum256(append(a[:], b.Component...))
	return binary.LittleEndian.Uint64(sum[:])
}
