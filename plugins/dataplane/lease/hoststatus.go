package lease

import (
	"time"

	"github.com/ratchetos/ratchet/plugins/dataplane/overlay"
)

// HostStatus is what a host's agent holds.
type HostStatus struct {
	Consumed []Consumed `json:"consumed"`
	Produced []Produced `json:"produced"`
	Outcomes Outcomes   `json:"outcomes"` // of packets sent

	Gate overlay.GateCounters `json:"gate"` // of packets received
}

// Consumed is one lease in use.
type Consumed struct {
	Service  string        `json:"service"`
	Producer string        `json:"producer"`
	Host     string        `json:"host"`
	Agent    string        `json:"agent"`
	Epoch    uint64        `json:"epoch"`
	Left     time.Duration `json:"left"`
	Draining bool          `json:"draining,omitempty"`
	Packets  uint64        `json:"packets"`
	Flows    uint64        `json:"flows"`
}

// Produced is one producer on the host.
type Produced struct {
	Service  string `json:"service"`
	Producer string `json:"producer"`
	Phase    string `json:"phase"`
	State    string `json:"state"`
	Epoch    uint64 `json:"epoch"`
	Leased   uint64 `json:"leased"`
}

func (l *loop) status(now time.Duration) (s HostStatus) {
	for _, c := range l.consumed {
		for _, u := range c.set.Leases() {
			n, _ := l.data.counts(c.row, u.Producer) // no counters are shown as none
			s.Consumed = append(s.Consumed, Consumed{
				Service: c.name, Producer: u.Producer, Host: u.Target.Host.String(), Agent: l.clients[u.Agent].Box(),
				Epoch: u.Epoch, Left: u.Expires - now, Draining: u.Draining, Packets: n.Packets, Flows: n.Flows,
			})
		}
	}
	for _, p := range l.produced {
		leased, _ := p.shares.Leased()
		s.Produced = append(s.Produced, Produced{
			Service: p.config.Service, Producer: p.config.Name, Phase: p.shares.Phase().String(), State: p.state().String(),
			Epoch: p.shares.Epoch(), Leased: leased,
		})
	}
	if l.data != nil {
		s.Outcomes, _ = l.data.outcomes()
	}
	if l.gate != nil {
		s.Gate, _ = l.gate.Counters()
	}
	return s
}
