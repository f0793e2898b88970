package table

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"unsafe"

	"github.com/ratchetos/ratchet/plugins/dataplane/bpf/lb"
)

// BackendID names a backend in the maps, in rings, counters and events. 0 is none.
type BackendID uint16

// Encapsulation is how packets go to a backend.
type Encapsulation uint8

// Encapsulations. IPIP is the plain tunnel of whichever families the two sides have.
const (
	IPIP Encapsulation = iota
	GUE
	VXLAN
)

func (e Encapsulation) String() string {
	switch e {
	case IPIP:
		return "ipip"
	case GUE:
		return "gue"
	case VXLAN:
		return "vxlan"
	}
	return fmt.Sprintf("encapsulation %d", uint8(e))
}

// Backend is an application component on a host. Address and Component are its identity; what else changes,
// changes under its flows.
type Backend struct {
	Address       netip.Addr // outer destination
	Component     string
	Encapsulation Encapsulation
	VNI           uint32           // of VXLAN
	NextHop       net.HardwareAddr // nil: the program asks the kernel's routes and neighbours, for each packet
	InnerMAC      net.HardwareAddr // of VXLAN; nil: broadcast, which a decapsulating program does not look at
	QUICServerID  uint16           // that connection ids of this backend carry; 0: none
}

func (b Backend) identity() backendIdentity { return backendIdentity{b.Address, b.key()} }

// backendIdentity is what a record holds of Address and Component.
type backendIdentity struct {
	address netip.Addr
	key     uint64
}

func (b Backend) check() error {
	switch {
	case !b.Address.IsValid() || b.Address.Is4In6() || b.Address.Zone() != "":
		return fmt.Errorf("backend %v: no plain IPv4 or IPv6 address", b.Address)
	case b.Encapsulation > VXLAN:
		return fmt.Errorf("backend %v: unknown %v", b.Address, b.Encapsulation)
	case b.VNI >= 1<<24:
		return fmt.Errorf("backend %v: VNI %d has more than 24 bits", b.Address, b.VNI)
	case len(b.NextHop) != 0 && len(b.NextHop) != 6, len(b.InnerMAC) != 0 && len(b.InnerMAC) != 6:
		return fmt.Errorf("backend %v: a MAC address has six bytes", b.Address)
	}
	return nil
}

// overhead is what goes between the outer Ethernet header and the inner IP header.
func (b Backend) overhead() uint16 {
	n := uint16(20)
	if b.Address.Is6() {
		n = 40
	}
	switch b.Encapsulation {
	case GUE:
		n += 8
	case VXLAN:
		n += 8 + 8 + 14
	}
	return n
}

// SetBackends makes these the whole set and returns their ids in the order given. One that was there keeps its
// id, flows and credit. The flows of one left out are dead with the call: their next packets are nobody's.
// A new backend has no credit until SetCredit.
func (t *Table) SetBackends(backends []Backend) ([]BackendID, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	defer t.setServers()
	wanted := make(map[backendIdentity]bool, len(backends))
	identities := make([]backendIdentity, len(backends))
	for i, b := range backends {
		if err := b.check(); err != nil {
			return nil, err
		}
		identities[i] = b.identity()
		if wanted[identities[i]] {
			return nil, fmt.Errorf("backend %v with component %q is there twice", b.Address, b.Component)
		}
		wanted[identities[i]] = true
	}
	for identity, id := range t.backends {
		if !wanted[identity] {
			t.removeBackend(identity, id)
		}
	}
	ids := make([]BackendID, len(backends))
	next := 1
	for i, b := range backends {
		id, known := t.backends[identities[i]]
		if !known {
			if next = t.freeBackend(next); next == len(t.shared.backends.Elems) && len(t.retiredBackends) > 0 {
				t.sweep(Timeouts{}) // sooner than the next one would be
				next = t.freeBackend(1)
			}
			if next == len(t.shared.backends.Elems) {
				return nil, fmt.Errorf("%w for backend %v: the table holds %d, of which %d wait until their last flows are swept", ErrFull, b.Address, next-1, len(t.retiredBackends))
			}
			id = BackendID(next)
			t.addBackend(id, identities[i])
		}
		t.writeBackend(id, identities[i].key, b)
		ids[i] = id
	}
	return ids, nil
}

// freeBackend is the first number from next on that nobody has.
func (t *Table) freeBackend(next int) int {
	for next < len(t.shared.backends.Elems) && (t.shared.backends.Elems[next].Used != 0 || slices.Contains(t.retiredBackends, BackendID(next))) {
		next++
	}
	return next
}

func (t *Table) addBackend(id BackendID, identity backendIdentity) {
	t.backends[identity] = id
	t.crediting.Lock()
	t.shared.credits.Elems[id] = lb.Credit{}
	t.crediting.Unlock()
	for cpu := range t.cpus {
		t.shared.beCount.Elems[cpu*len(t.shared.backends.Elems)+int(id)] = lb.BackendCounter{}
	}
}

// writeBackend brings a record up to date; one that was not in use is marked so last.
func (t *Table) writeBackend(id BackendID, key uint64, b Backend) {
	r := &t.shared.backends.Elems[id]
	next := *r
	next.Address, _ = words(b.Address)
	next.Key = key
	next.Vni = b.VNI
	next.NextHop.W = macWords(b.NextHop)
	next.Inner.W = macWords(b.InnerMAC)
	if b.InnerMAC == nil {
		next.Inner.W = [3]uint16{0xffff, 0xffff, 0xffff}
	}
	next.Family = family(b.Address)
	next.Encapsulation = uint8(b.Encapsulation)
	next.Overhead = b.overhead()
	// Version and length of the header, its TTL, and the destination: what no packet changes.
	next.Sum = sum32(0x45, 64, next.Address[0])
	next.Used = 1
	next.Server = b.QUICServerID
	if next != *r {
		state := *stateOf(&next)
		r.Address, r.Key, r.Sum, r.Vni = next.Address, next.Key, next.Sum, next.Vni
		r.NextHop, r.Inner, r.Overhead, r.Server = next.NextHop, next.Inner, next.Overhead, next.Server
		atomic.StoreUint32(stateOf(r), state)
	}
}

// stateOf is the word of a record that says whether it is in use and by which generation: family, encapsulation,
// generation and used, stored at once and last, read without a lock.
func stateOf(b *lb.Backend) *uint32 { return (*uint32)(unsafe.Pointer(&b.Family)) }

// generation is that of a backend that is in use.
func (t *Table) generation(id BackendID) (generation uint8, used bool) {
	if id == 0 || int(id) >= len(t.shared.backends.Elems) {
		return 0, false
	}
	state := atomic.LoadUint32(stateOf(&t.shared.backends.Elems[id]))
	return uint8(state>>16) & 15, state>>24 != 0
}

// sum32 adds in one's complement, so that it stays within 32 bits.
func sum32(w ...uint32) uint32 {
	var sum uint64
	for _, x := range w {
		sum += uint64(x)
	}
	return uint32(sum) + uint32(sum>>32)
}

func macWords(m net.HardwareAddr) (w [3]uint16) {
	for i := range len(m) / 2 {
		w[i] = uint16(m[2*i]) | uint16(m[2*i+1])<<8
	}
	return w
}

// setServers enters the QUIC server ids of all backends. Two may have the same, as components of one host do.
func (t *Table) setServers() {
	wanted := make([]uint64, len(t.shared.servers.Elems))
	for id := range t.shared.backends.Elems {
		if b := &t.shared.backends.Elems[id]; b.Used != 0 && b.Server != 0 {
			word, shift := &wanted[b.Server/4], b.Server%4*16
			*word = *word&^(0xffff<<shift) | uint64(id)<<shift
		}
	}
	for i, w := range wanted {
		if word := &t.shared.servers.Elems[i]; *word != w {
			atomic.StoreUint64(word, w)
		}
	}
}

// removeBackend ends a backend: with its generation all its entries are dead, without anybody looking for them.
func (t *Table) removeBackend(identity backendIdentity, id BackendID) {
	r := &t.shared.backends.Elems[id]
	t.crediting.Lock()
	gone := *r
	gone.Used, gone.Generation = 0, (r.Generation+1)&15
	atomic.StoreUint32(stateOf(r), *stateOf(&gone))
	atomic.StoreUint64(&t.shared.credits.Elems[id].Grant, 0)
	t.crediting.Unlock()
	r.Server = 0
	r.Key = 0
	delete(t.backends, identity)
	t.retiredBackends = append(t.retiredBackends, id)
}
