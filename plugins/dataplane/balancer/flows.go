package balancer

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/ratchetos/ratchet/plugins/dataplane/balancer/flowsync"
	"github.com/ratchetos/ratchet/plugins/dataplane/balancer/table"
)

// keyPrint tells keys apart without giving them away.
func keyPrint(k table.Key) uint64 {
	h := sha256.New()
	for _, half := range k {
		for _, word := range half {
			var b [8]byte
			binary.BigEndian.PutUint64(b[:], word)
			h.Write(b[:])
		}
	}
	return binary.BigEndian.Uint64(h.Sum(nil))
}

// names maps the table's numbers to names that mean the same on every balancer. r.mu is held.
func (r *run) names() map[table.BackendID]uint64 {
	out := make(map[table.BackendID]uint64, len(r.backends))
	for _, b := range r.backends {
		if b.id != 0 {
			out[b.id] = b.hash
		}
	}
	return out
}

// numbers is the other way round. r.mu is held.
func (r *run) numbers() map[uint64]table.BackendID {
	out := make(map[uint64]table.BackendID, len(r.backends))
	for _, b := range r.backends {
		if b.id != 0 {
			out[b.hash] = b.id
		}
	}
	return out
}

// vipOf finds the VIP that a packet to local belongs to: of several, the one with the fewest ports. r.mu is held.
func (r *run) vipOf(local netip.AddrPort, protocol uint8) (id table.VIPID, ok bool) {
	best := 1 << 17
	for _, v := range r.vips {
		k := v.Key
		if k.Address != local.Addr() || local.Port() < k.First || local.Port() > k.Last || !carries(k.Protocol, protocol) {
			continue
		}
		width := 2 * int(k.Last-k.First)
		if k.Protocol == table.Any {
			width++
		}
		if width < best {
			best, id, ok = width, v.id, true
		}
	}
	return id, ok
}

// Protocols, as an IP header has them.
const tcp, udp = 6, 17

func carries(p table.Protocol, protocol uint8) bool {
	switch p {
	case table.TCP:
		return protocol == tcp
	case table.UDP, table.QUIC:
		return protocol == udp
	default:
		return true
	}
}

// insert files a peer's live records and says how many are in the table now.
func (r *run) insert(records []flowsync.Record) (int, error) {
	flows := make([]table.FlowRecord, 0, len(records))
	r.mu.Lock()
	numbers := r.numbers()
	for _, e := range records {
		vip, ok := r.vipOf(e.Local, e.Protocol)
		backend := numbers[e.Backend]
		if !ok || backend == 0 {
			r.meters.foreign++ // a VIP or a backend that this balancer does not have
			continue
		}
		state := table.Brief
		if e.Protocol == tcp && !e.Ended {
			state = table.Established
		}
		flows = append(flows, table.FlowRecord{VIP: vip, Client: e.Client, Local: e.Local, Protocol: e.Protocol, Backend: backend, State: state})
	}
	r.mu.Unlock()
	return r.table.InsertFlows(flows)
}

// pageRequest asks for entries from a line on, of a table with this key and size.
type pageRequest struct {
	From  uint32 `json:"from"`
	Lines int    `json:"lines"`
	Key   uint64 `json:"key"`
}

var (
	errOtherKey  = errors.New("both balancers had connections before they met: only new ones are shared until one of them starts without any")
	errOtherSize = errors.New("the flow tables are of different sizes: give both balancers the same flows")
)

// peerPage gives a peer a page of entries.
func (p *Part) peerPage(ctx context.Context, host string, request []byte) ([]byte, error) {
	r := p.running()
	if r == nil || p.peer(host) == nil {
		return nil, errNoPeer
	}
	var q pageRequest
	if err := json.Unmarshal(request, &q); err != nil {
		return nil, fmt.Errorf("parse request: %w", err)
	}
	switch {
	case q.Lines != r.table.Lines():
		return nil, errOtherSize
	case q.Key != keyPrint(r.table.Key()):
		return nil, errOtherKey
	}
	return r.page(ctx, q.From).Append(nil), nil
}

// page gathers entries, whole lines, from one line on.
func (r *run) page(ctx context.Context, from uint32) flowsync.Page {
	r.mu.Lock()
	names := r.names()
	r.mu.Unlock()
	var p flowsync.Page
	index := map[table.BackendID]uint16{}
	last := from
	for f := range r.table.Export() {
		if f.Line < from {
			continue
		}
		if f.Line != last && len(p.Entries) > flowsync.MaxPage-64 || ctx.Err() != nil {
			p.Next = f.Line
			break
		}
		last = f.Line
		name, ok := names[f.Backend]
		if !ok {
			continue
		}
		i, ok := index[f.Backend]
		if !ok {
			i = uint16(len(p.Backends))
			index[f.Backend] = i
			p.Backends = append(p.Backends, name)
		}
		p.Entries = append(p.Entries, flowsync.Entry{Line: f.Line, Fingerprint: f.Print, Backend: i, State: uint8(f.State), Idle: f.Idle})
	}
	return p
}

// passDue says whether the peer's entries are to be taken now.
func (p *peer) passDue(now time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	due := p.passed == 0 || p.seen != p.theirs || now-p.passed >= fullPass
	pause := passRetry
	if p.passed == 0 {
		pause = 0 // at the next beat: the election waits for nobody, and who is not in step loses it whatever its priority
	}
	return due && p.heard != 0 && now-p.heard < time.Second && (p.tried == 0 || now-p.tried >= pause)
}

// pass takes all of a peer's entries.
func (p *peer) pass(ctx context.Context) error {
	r := p.run
	began := r.part.now()
	p.mu.Lock()
	p.tried = began
	// What becomes established from here on comes as a record, or raises the number again.
	stream := p.seen
	p.mu.Unlock()
	n := 0
	for from := uint32(0); ; {
		calling, cancel := context.WithTimeout(ctx, passTimeout)
		var raw []byte
		err := p.client.Call(calling, methodPage, pageRequest{from, r.table.Lines(), keyPrint(r.table.Key())}, &raw)
		cancel()
		if err != nil {
			return fmt.Errorf("take flows of %s: %w", p.Name, err)
		}
		page, err := flowsync.ParsePage(raw)
		if err != nil {
			return fmt.Errorf("take flows of %s: %w", p.Name, err)
		}
		taken, err := r.importPage(page)
		if err != nil {
			return fmt.Errorf("take flows of %s: %w", p.Name, err)
		}
		n += taken
		if page.Next <= from {
			break
		}
		from = page.Next
	}
	p.mu.Lock()
	p.passed, p.theirs = max(began, 1), stream
	p.taken += uint64(n)
	p.mu.Unlock()
	p.complain("")
	return nil
}

// importPage files entries as they are.
func (r *run) importPage(page flowsync.Page) (int, error) {
	r.mu.Lock()
	numbers := r.numbers()
	r.mu.Unlock()
	raw := make([]table.RawFlow, 0, len(page.Entries))
	for _, e := range page.Entries {
		if id := numbers[page.Backends[e.Backend]]; id != 0 {
			raw = append(raw, table.RawFlow{Line: e.Line, Print: e.Fingerprint, Backend: id, State: table.FlowState(e.State), Idle: e.Idle})
		}
	}
	return r.table.Import(raw)
}
