package balancer

import (
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/ratchetos/ratchet/plugins/dataplane/balancer/announce/bgp"
	"github.com/ratchetos/ratchet/plugins/dataplane/balancer/announce/election"
	"github.com/ratchetos/ratchet/plugins/dataplane/balancer/announce/neighbour"
)

// Announcements are repeated, as some are lost: after each of these pauses, and then at every last one.
var repeats = [...]time.Duration{0, 100 * time.Millisecond, time.Second, 3 * time.Second, 30 * time.Second}

// announcing is what tells the network where the VIPs are.
type announcing struct {
	mu        sync.Mutex
	node      *election.Node // nil while the balancer has no peers and does not announce by ARP
	responder *neighbour.Responder
	speaker   *bgp.Announcer
	config    Announce
	addresses []netip.Addr
	active    bool
	repeat    int           // index in repeats
	due       time.Duration // of the next announcement
	problem   string
	stop      chan struct{}
	done      sync.WaitGroup
}

// configureAnnouncing brings a configuration into force; the worker calls it.
func (r *run) configureAnnouncing(d, old Desired) {
	a := &r.announcing
	addresses := vipAddresses(d)
	if old.Announce.Mode == BGP && (d.Announce.Mode != BGP || !sameSpeaker(old.Announce.BGP, d.Announce.BGP)) {
		r.stopSpeaker(d.Announce.Mode != BGP)
	}
	a.mu.Lock()
	a.config, a.addresses = d.Announce, addresses
	switch {
	case len(d.Peers) == 0 && d.Announce.Mode != ARP:
		a.node = nil
	case a.node == nil:
		a.node = election.New(r.part.now(), r.name(), d.Announce.Priority, d.Announce.Beat)
	default:
		a.node.Configure(d.Announce.Priority, d.Announce.Beat)
	}
	speaker, node := a.speaker, a.node
	if d.Announce.Mode != ARP && a.responder != nil {
		a.responder.Close()
		a.responder = nil
	} else if a.responder != nil && a.active {
		a.responder.Own(addresses)
		a.repeat, a.due = 0, r.part.now()
	}
	a.mu.Unlock()
	if d.Announce.Mode == BGP {
		if speaker == nil {
			speaker = bgp.Start(bgp.Options{
				Speaker: d.Announce.BGP, Log: r.o.Log, Restarted: r.table.TookOver(), Dial: r.o.Dial, Changed: r.o.Changed,
			})
			a.mu.Lock()
			a.speaker = speaker
			a.mu.Unlock()
		}
		speaker.Announce(addresses)
	}
	if d.Announce.Mode == ARP && r.attachment != nil {
		r.announceOn(r.ifindex)
	}
	if node != nil && a.stop == nil {
		a.stop = make(chan struct{})
		a.done.Go(r.beat)
	}
}

// name tells balancers apart in the election.
func (r *run) name() string {
	const digits = "0123456789abcdef"
	b := make([]byte, 16)
	for i := range b {
		b[i] = digits[r.life>>(60-4*i)&15]
	}
	return string(b)
}

func vipAddresses(d Desired) []netip.Addr {
	var out []netip.Addr
	for _, v := range d.VIPs {
		out = append(out, v.Key.Address)
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

func sameSpeaker(a, b bgp.Speaker) bool {
	n := slices.Equal(a.Neighbours, b.Neighbours)
	return n && a.AS == b.AS && a.RouterID == b.RouterID && a.NextHop4 == b.NextHop4 && a.NextHop6 == b.NextHop6 &&
		a.HoldTime == b.HoldTime && a.RestartTime == b.RestartTime
}

// announceOn opens the responder on a link, when there is to be one.
func (r *run) announceOn(index int) {
	a := &r.announcing
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.config.Mode != ARP || a.responder != nil {
		return
	}
	var err error
	r.o.In(func() {
		var link *net.Interface
		if link, err = net.InterfaceByIndex(index); err == nil {
			a.responder, err = neighbour.Listen(link, r.o.Log)
		}
	})
	a.problem = ""
	if err != nil {
		a.responder, a.problem = nil, err.Error()
		return
	}
	if a.active {
		a.responder.Own(a.addresses)
		a.repeat, a.due = 0, r.part.now()
	}
}

// silence closes the responder: its link is not the balancer's any more.
func (r *run) silence() {
	a := &r.announcing
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.responder != nil {
		a.responder.Close()
		a.responder = nil
	}
}

// beat steps the election until the run ends.
func (r *run) beat() {
	a := &r.announcing
	for {
		a.mu.Lock()
		every := a.config.Beat
		if a.node != nil {
			r.stepElection()
		}
		a.mu.Unlock()
		select {
		case <-a.stop:
			return
		case <-time.After(every):
		}
	}
}

// stepElection lets the node decide and follows it. announcing.mu is held.
func (r *run) stepElection() {
	a := &r.announcing
	now := r.part.now()
	a.node.SetReady(r.inStep(now))
	a.node.SetFault(!r.attached.Load())
	active, announce := a.node.Step(now)
	if active != a.active {
		a.active = active
		r.o.Log.Info("balancer's part in the election has changed", "active", active, "term", a.node.Self().Term)
		r.o.Changed()
	}
	if a.responder == nil {
		return
	}
	switch {
	case !active:
		a.responder.Own(nil)
		return
	case announce:
		a.responder.Own(a.addresses)
		a.repeat, a.due = 0, now
	}
	if now >= a.due {
		if err := a.responder.Announce(); err != nil {
			a.problem = err.Error()
		} else {
			a.problem = ""
		}
		a.repeat = min(a.repeat+1, len(repeats)-1)
		a.due = now + repeats[a.repeat]
	}
}

// stopSpeaker ends BGP; with withdraw the neighbours are told that the routes are gone.
func (r *run) stopSpeaker(withdraw bool) {
	a := &r.announcing
	a.mu.Lock()
	s := a.speaker
	a.speaker = nil
	a.mu.Unlock()
	if s == nil {
		return
	}
	if withdraw {
		s.Withdraw()
	}
	s.Close()
}

// withdraw says goodbye: this balancer is to get no more traffic.
func (r *run) withdraw() { r.stopSpeaker(true) }

func (r *run) stopAnnouncing() {
	a := &r.announcing
	if a.stop != nil {
		close(a.stop)
		a.done.Wait()
	}
	r.stopSpeaker(false)
	if a.responder != nil {
		a.responder.Close()
	}
}
