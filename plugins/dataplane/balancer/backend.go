package balancer

import (
	"net/netip"
	"time"

	"github.com/ratchetos/ratchet/plugins/dataplane/balancer/credit"
	"github.com/ratchetos/ratchet/plugins/dataplane/balancer/health"
	"github.com/ratchetos/ratchet/plugins/dataplane/balancer/maglev"
	"github.com/ratchetos/ratchet/plugins/dataplane/balancer/steer"
	"github.com/ratchetos/ratchet/plugins/dataplane/balancer/table"
)

// silentFor is how many TTLs a host may be silent until health checks, if there are any, decide in its agent's place.
const silentFor = 5

// fullFor is how long a backend must have been without room to lose its places in the rings. The program passes it over
// meanwhile, and it is back at once: a ring that follows each report would be behind when room comes back.
const fullFor = 250 * time.Millisecond

// backendKey tells backends apart: VIPs with the same component share them, and their credit.
type backendKey struct {
	host      string
	address   netip.Addr // as configured; not valid when it is that of the host's agent
	component string
}

// backend is one of them, in the table or on its way there. Its fields are guarded by run.mu, but what the worker
// alone uses.
type backend struct {
	key     backendKey
	address netip.Addr // where packets go; not valid while nobody knows
	id      table.BackendID
	quicID  uint16
	hash    uint64 // names it on every balancer alike

	// From the VIPs that use it: the least of their TTLs and limits, the longest slow start.
	ttl   time.Duration
	slow  time.Duration
	limit uint32

	account  credit.Account
	sequence uint64 // of what the table was given last
	step     uint32 // of its slow start
	room     bool
	lost     time.Duration // when it last lost its room
	allowed  uint32        // of what the agent has granted last, what it may have
	hinted   bool          // the host was told that credit runs low, and has not reported since
	dry      int           // looks in a row without credit left
	open     uint32        // connections in the flow table, and what was dispatched before they were counted; of those with
	counted  uint64        // a limit and without an agent
	granted  bool          // it may be sent connections without an agent's word
	awaited  time.Duration // until then what its agent has granted an earlier process holds, though this one has not heard it
}

// place is what the table tells backends apart by.
type place struct {
	address   netip.Addr
	component string
}

func (b *backend) where() place { return place{b.address, b.key.component} }

// move notes where packets go.
func (b *backend) move(a netip.Addr) {
	b.address = a
	b.hash = maglev.Key(append(a.AsSlice(), b.key.component...))
}

// reporting says whether an agent speaks for it: it has, and not too long ago.
func (b *backend) reporting(now time.Duration) bool {
	age, heard := b.account.Age(now)
	return heard && age <= silentFor*b.ttl
}

// vip is one VIP in force. The worker alone uses it, but for what run.mu guards.
type vip struct {
	VIP
	id      table.VIPID
	size    int
	members []member
	weights []uint32 // of the ring in force
	ids     []table.BackendID
	ringed  bool
	next    time.Duration // when weights change by themselves
	flushed time.Duration
	dirty   bool // guarded by run.mu, like those below
	urgent  bool // a backend has room again: others may be refused while there is some
	marked  time.Duration
}

// member is a backend of a VIP.
type member struct {
	*backend
	name    string
	weight  uint32
	target  health.Target
	checked bool
	state   steer.Backend
	served  bool // an earlier process has left it in the ring: so it serves until the first check knows better
	serving bool // before the last look
	began   bool // looked at before
}

// weightOf is the weight that counts: an operator's word goes before the configuration's.
func (r *run) weightOf(v *vip, m *member) uint32 {
	if w, ok := r.overrides[override{v.Name, m.name}]; ok {
		return w
	}
	return m.weight
}

// look brings a member's condition up to date.
func (r *run) look(v *vip, m *member, now time.Duration) {
	serving := m.address.IsValid()
	var room bool
	switch {
	case m.reporting(now):
		room = m.room && m.account.Fresh(now, m.ttl) || now-m.lost < fullFor
	case m.checked:
		state := r.monitor.State(m.target)
		serving = serving && (state.Up || m.served && !state.Known)
		room = m.limit == 0 || m.open < m.limit
	case m.key.host != "":
		// An agent is expected and has not spoken: full.
		room = now-m.lost < fullFor
	default:
		room = m.limit == 0 || m.open < m.limit
	}
	if serving && !m.serving {
		m.state.Since = now
		// What served when this process began does not start slowly again.
		m.state.Seasoned = !m.began && !r.settledIn
	}
	m.serving, m.began = serving, true
	m.state.Weight, m.state.Serving, m.state.Room = r.weightOf(v, m), serving, room
}
