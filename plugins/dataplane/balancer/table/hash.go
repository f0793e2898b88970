package table

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
)

// Key makes the flow hash unpredictable. Two balancers that exchange raw entries have the same.
// It is the C struct tuple_key: for line and for print a constant, and keys for ports, protocol and four pairs of
// words of the client's and the local address.
type Key [2][11]uint64

// NewKey draws one.
func NewKey() Key {
	var b [2 * 11 * 8]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the process instead
	var k Key
	for i := range k {
		for j := range k[i] {
			k[i][j] = binary.LittleEndian.Uint64(b[(i*11+j)*8:])
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

// flow is tuple_hash of bpf/headers/hash.h.
func (k *Key) flow(client, local netip.AddrPort, protocol uint8) uint64 {
	c, n := words(client.Addr())
	l, _ := words(local.Addr())
	p := ports(client.Port(), local.Port())
	var sum [2]uint64
	for h := range sum {
		k := &k[h]
		sum[h] = k[0] + (k[1]+uint64(p))*(k[2]+uint64(protocol))
		for i := range n {
			sum[h] += (k[3+2*i] + uint64(c[i])) * (k[4+2*i] + uint64(l[i]))
		}
	}
	line := (sum[0] ^ sum[0]>>21) * 0x9e3779b97f4a7c15 // tuple_line
	return line&^0xffffffff | sum[1]>>32
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

// key stands for a backend in its record, to be found again after a restart.
func (b Backend) key() uint64 {
	a := b.Address.As16()
	sum := sha256.Sum256(append(a[:], b.Component...))
	return binary.LittleEndian.Uint64(sum[:])
}
