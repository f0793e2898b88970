package systems

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/plugins/dataplane/nettest"
	"github.com/ratchetos/ratchet/plugins/dataplane/vni/api"
)

// The bounds of issue 5: of a stream of 1,000 datagrams a second when an instance is killed, and of the milliseconds after
// which the VNI of a silent host is attached elsewhere, whose lease is 150 ms (docs/explanation/vni.md).
const (
	maxLost, lostLimit   = 200, 1000
	maxMoved, movedLimit = 150 + 100, 1000
)

// killed: the instance that holds the VNI is killed; its host's agent lives.
func (f *failover) killed() (figure, error) {
	f.t.Helper()
	h, o, epoch := f.ready()
	m := f.moves(h, o, h.instance.Kill)
	h.starts()
	what := fmt.Sprintf("booted box: VNI's instance killed: attached elsewhere after %d ms, %d datagrams of a 1 kHz stream lost, detection included",
		m.took.Milliseconds(), m.lost)
	return figure{what, m.lost, maxLost, lostLimit}, f.isAt(o, epoch+1)
}

// silence is a way not to be heard by the box, and to be heard again.
type silence struct {
	how        string
	begin, end func(*candidate)
}

var silences = []silence{
	{"agent stopped", func(c *candidate) { c.signal(syscall.SIGSTOP) }, func(c *candidate) { c.signal(syscall.SIGCONT) }},
	{"host cut off", func(c *candidate) { c.cutOff("on") }, func(c *candidate) { c.cutOff("off") }},
}

// lateLasts is how long a client whose agent is stopped goes on: dataplaneConfig's lease of groups, less what had passed
// of it.
const lateLasts = 15 * time.Second

// signal sends a signal to the host's agent.
func (h *host) signal(s syscall.Signal) {
	h.d.t.Helper()
	must(h.d.t, h.agent.Process.Signal(s))
}

// cutOff lets nothing pass between the host and the box. Hosts and clients reach each other.
func (c *candidate) cutOff(onOff string) {
	for _, port := range []string{boxPort, c.port} {
		c.d.sw.IP(fmt.Sprintf("link set %s type bridge_slave isolated %s", port, onOff))
	}
}

// silent: the box does not hear the holder's host any more, gives the VNI to the other one, hears it again, and is asked
// to give it back. Meanwhile a client that hears of no move goes on sending to the first attachment, through the real
// program with the epoch of then.
func (f *failover) silent(s silence) (figure, error) {
	f.t.Helper()
	h, o, epoch := f.ready()
	f.stales++
	first := firstStale + f.stales*staleSpan
	last := first + staleSpan - 1
	old := f.late.streams(first)
	h.instance.Await(f.t, stepLimit, first, last)
	f.late.signal(syscall.SIGSTOP)
	stopped := time.Now()
	m := f.moves(h, o, func() { s.begin(h) })
	s.end(h)
	dropped, err := f.comesBack(h, epoch, old, stopped.Add(lateLasts))
	old.Stop()
	f.late.signal(syscall.SIGCONT)

	// Whatever else went wrong: nobody gets what is of an attachment that is over.
	if n := len(o.instance.Between(first, last)); n > 0 {
		f.t.Fatalf("%s: %s got %d datagrams of the attachment before its own", s.how, o, n)
	}
	accepted := h.instance.Between(first, last)
	if at := accepted[len(accepted)-1]; !at.Before(m.first) {
		f.t.Fatalf("%s: %s accepted a stale datagram %v after %s had got its first", s.how, h, at.Sub(m.first), o)
	}
	took := int(m.took.Milliseconds())
	what := fmt.Sprintf("booted box: VNI's %s: attached elsewhere after %d ms (lease 150 ms), %d datagrams lost; after it is back 0 of %d stale ones accepted",
		s.how, took, m.lost, dropped)
	return figure{what, took, maxMoved, movedLimit}, err
}

// comesBack moves the VNI back to a host that was silent and says how many datagrams of old it dropped since, which are
// of the attachment with that epoch.
func (f *failover) comesBack(h *candidate, epoch uint64, old *nettest.Stream, until time.Time) (dropped uint64, err error) {
	f.t.Helper()
	if _, o, now := f.ready(); o != h || now != epoch+1 {
		return 0, fmt.Errorf("%w: from epoch %d to %d", errDisturbed, epoch, now)
	}
	before := f.dropped(h)
	f.d.m.ctl("dataplane", "vni", "move", theVNI, h.String())
	f.hears(h)
	if err := f.isAt(h, epoch+2); err != nil {
		return 0, err
	}
	from := old.Sent()
	h.instance.Await(f.t, stepLimit, f.stream.Sent()+100, firstStale-1)
	old.Stop()
	sent := old.Sent() - from
	if time.Now().After(until) {
		return 0, fmt.Errorf("%w: the client that hears of no move may not be sending any more", errDisturbed)
	}
	await(f.t, stepLimit, fmt.Sprintf("%s to report %d stale datagrams", h, sent), func() (string, bool) {
		dropped = f.dropped(h) - before
		return fmt.Sprint(dropped), dropped >= sent
	})
	return dropped, nil
}

// dropped is how many packets of older attachments a host has dropped, as its agent told the box.
func (f *failover) dropped(c *candidate) uint64 {
	f.t.Helper()
	r := decode[api.PacketsReply](f.t, []byte(f.d.m.asks("dataplane", "vni", "packets", "-o", "json")))
	i := slices.IndexFunc(r.Hosts, func(h api.Host) bool { return h.Name == c.host.name })
	if i < 0 {
		return 0
	}
	return r.Hosts[i].Packets["stale epoch"]
}

// move is what a fault led to.
type move struct {
	lost  int           // datagrams that nobody got
	took  time.Duration // until the VNI was attached, by the clock of the host that got it
	first time.Time     // when the first datagram came there
}

// moves waits until the other candidate gets the stream after a fault.
func (f *failover) moves(from, to *candidate, fault func()) move {
	f.t.Helper()
	mark := len(to.logged(f.t))
	f.hears(from)
	before, at := f.stream.Sent(), time.Now()
	fault()
	to.instance.Await(f.t, stepLimit, before+1, firstStale-1)
	last := f.stream.Sent()
	f.hears(to)
	return move{
		lost:  nettest.Lost(before+1, last, from.instance.Receiver, to.instance.Receiver),
		took:  attached(f.t, to.logged(f.t)[mark:]).Sub(at),
		first: to.instance.Between(before+1, firstStale-1)[0],
	}
}

// isAt checks that the VNI did not move for another reason.
func (f *failover) isAt(c *candidate, epoch uint64) error {
	f.t.Helper()
	if i := f.shown(); i.Epoch != epoch || i.Holder == nil || i.Holder.String() != c.String() {
		return fmt.Errorf("%w: at %v, epoch %d; expected at %s, epoch %d", errDisturbed, i.Holder, i.Epoch, c, epoch)
	}
	return nil
}

// logged is all that the host's agent has said.
func (c *candidate) logged(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(c.d.dir, c.host.name, "agent.log"))
	must(t, err)
	return string(text)
}

// attached is when an agent attached the VNI first, by its own word.
func attached(t *testing.T, log string) time.Time {
	t.Helper()
	m := regexp.MustCompile(`time=(\S+) .*msg="VNI attached" .*vni=` + theVNI + ` `).FindStringSubmatch(log)
	if m == nil {
		t.Fatalf("the agent did not say that the VNI was attached:\n%s", log)
	}
	at, err := time.Parse(time.RFC3339Nano, m[1])
	must(t, err)
	return at
}
