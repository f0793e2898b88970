package libvirt

import (
	"sync"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/libvirt/remote"
)

// Moves is what the two sides of each move know of each other. The zero value is ready; all ports of a manager share one.
type Moves struct {
	mu  sync.Mutex
	out map[string]*departure // by the move's ID
	in  map[string]*arrival
}

// departure is the source's side of a move.
type departure struct {
	host   string
	conn   *remote.Conn // the daemon ties the job to it
	dom    remote.Domain
	ticket []byte
	x      *transfer // once it is performed
}

// arrival is the target's side.
type arrival struct {
	port    *Port
	host    string
	vm      string
	conn    *remote.Conn // the daemon ties the unfinished destination to it
	ticket  ticket
	xml     string // of the destination
	armed   armament
	uri     string
	cookie  []byte // for the source
	tlsName string
}

// armament is what a destination was readied for, which it must be told when it is started.
type armament struct {
	plain    bool
	postCopy bool
	channels int
}

// departures and arrivals are found, kept and dropped under the ID of their move and the name of their host: a move is
// tried again, and two moves of one manager meet at a host.

func (m *Moves) departure(id, host string) *departure {
	m.mu.Lock()
	defer m.mu.Unlock()
	if d := m.out[id]; d != nil && d.host == host && d.conn.Err() == nil {
		return d
	}
	return nil
}

func (m *Moves) arrival(id, host string) *arrival {
	m.mu.Lock()
	defer m.mu.Unlock()
	if a := m.in[id]; a != nil && a.host == host && a.conn.Err() == nil {
		return a
	}
	return nil
}

// transfer is that of a move, nil before Perform.
func (m *Moves) transfer(id string) *transfer {
	m.mu.Lock()
	defer m.mu.Unlock()
	if d := m.out[id]; d != nil {
		return d.x
	}
	return nil
}

// perform notes the transfer of a departure.
func (m *Moves) perform(d *departure, x *transfer) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d.x = x
}

func (m *Moves) depart(id string, d *departure) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.out == nil {
		m.out = map[string]*departure{}
	}
	m.out[id] = d
}

func (m *Moves) arrive(id string, a *arrival) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.in == nil {
		m.in = map[string]*arrival{}
	}
	m.in[id] = a
}

// departed and arrived end a side: its connection is closed, and what the daemon ties to it ends.
func (m *Moves) departed(id, host string) {
	m.mu.Lock()
	d := m.out[id]
	if d != nil && d.host == host {
		delete(m.out, id)
	} else {
		d = nil
	}
	m.mu.Unlock()
	if d != nil {
		_ = d.conn.Close() // nothing more is asked of it
	}
}

func (m *Moves) arrived(id, host string) {
	m.mu.Lock()
	a := m.in[id]
	if a != nil && a.host == host {
		delete(m.in, id)
	} else {
		a = nil
	}
	m.mu.Unlock()
	if a != nil {
		_ = a.conn.Close()
	}
}

// leaving tells whether a VM of a host is stopped by a move of this manager that is not complete.
func (m *Moves) leaving(vm, host string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, d := range m.out {
		if d.host == host && d.dom.Name == vm && d.x != nil {
			return d.conn.Err() == nil && !d.x.isComplete()
		}
	}
	return false
}

// leave ends everything at a host whose port is closed.
func (m *Moves) leave(host string) {
	var conns []*remote.Conn
	m.mu.Lock()
	for id, d := range m.out {
		if d.host == host {
			delete(m.out, id)
			conns = append(conns, d.conn)
		}
	}
	for id, a := range m.in {
		if a.host == host {
			delete(m.in, id)
			conns = append(conns, a.conn)
		}
	}
	m.mu.Unlock()
	for _, c := range conns {
		_ = c.Close()
	}
}
