package balancer

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
	"github.com/ratchetos/ratchet/plugins/dataplane/balancer/api"
	"github.com/ratchetos/ratchet/plugins/dataplane/balancer/health"
	"github.com/ratchetos/ratchet/plugins/dataplane/balancer/table"
	"github.com/ratchetos/ratchet/plugins/dataplane/bpf"
	"github.com/ratchetos/ratchet/plugins/dataplane/capacity/report"
	"github.com/ratchetos/ratchet/plugins/dataplane/control"
	"github.com/ratchetos/ratchet/plugins/dataplane/control/controltest"
	"github.com/ratchetos/ratchet/plugins/internal/packet"
)

// newPart makes a part with a real table and no interface, started with d.
func newPart(t testing.TB, o Options, d Desired) *Part {
	t.Helper()
	if o.State == nil {
		o.State = controltest.NewMemoryState()
	}
	o.Link = func(string) (int, int, bool) { return 0, 0, false }
	p := New(o)
	if err := p.Start(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Stop(context.Background()) })
	return p
}

// many is so many VIPs with the same backends, of which none has an agent.
func many(vips, backends int) Desired {
	d := Desired{Interface: "data0", Flows: 4096, MTU: 1500, Source4: netip.MustParseAddr("10.0.0.1"), Announce: Announce{Beat: time.Second}}
	for i := range vips {
		v := VIP{
			Name: fmt.Sprintf("vip%d", i), Component: "web", ReportTTL: time.Second,
			Key: table.VIP{Address: netip.AddrFrom4([4]byte{192, 0, byte(2 + i>>8), byte(i)}), Protocol: table.TCP, First: 80, Last: 80},
		}
		for j := range backends {
			v.Backends = append(v.Backends, Backend{Address: netip.AddrFrom4([4]byte{127, 1, byte(j >> 8), byte(j)}), Weight: 1})
		}
		d.VIPs = append(d.VIPs, v)
	}
	return d
}

func invoke(t testing.TB, p *Part, method string, request, reply any) error {
	t.Helper()
	b, err := json.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	out, err := p.Invoke(t.Context(), method, b)
	if err == nil {
		err = json.Unmarshal(out, reply)
	}
	return err
}

func weight(n uint32) *uint32 { return &n }

// An operator's weight holds until it is taken back, over a restart as well, and is refused for what is not there.
func TestWeights(t *testing.T) {
	state := controltest.NewMemoryState()
	d := many(2, 3)
	p := newPart(t, Options{State: state}, d)
	of := func() string {
		var r api.VIPsReply
		if err := invoke(t, p, api.MethodVIPs, api.VIPsRequest{Name: "vip1"}, &r); err != nil {
			t.Fatal(err)
		}
		var s []string
		for _, b := range r.VIPs[0].Backends {
			s = append(s, fmt.Sprint(b.State, " ", b.Weight))
		}
		return strings.Join(s, ", ")
	}
	until(t, "all serve", func() bool { return of() == "serving 1, serving 1, serving 1" })
	change := func(changes ...api.Weight) error {
		return invoke(t, p, api.MethodWeights, api.WeightsRequest{Changes: changes}, &struct{}{})
	}
	if err := change(api.Weight{VIP: "vip1", Backend: "127.1.0.0", Weight: weight(0)}, api.Weight{VIP: "vip1", Backend: "127.1.0.1", Weight: weight(7)}); err != nil {
		t.Fatal(err)
	}
	until(t, "one is drained", func() bool { return of() == "drained 0, serving 7, serving 1" })
	for _, wrong := range []api.Weight{{VIP: "vip9", Backend: "127.1.0.0"}, {VIP: "vip1", Backend: "127.1.0.9"}, {VIP: "vip1", Backend: "127.1.0.0", Weight: weight(65536)}} {
		if err := change(api.Weight{VIP: "vip1", Backend: "127.1.0.1", Weight: weight(1)}, wrong); err == nil {
			t.Errorf("%+v was taken", wrong)
		}
	}
	if got := of(); got != "drained 0, serving 7, serving 1" {
		t.Errorf("a refused call has changed something: %s", got)
	}
	if err := p.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	p = newPart(t, Options{State: state}, d)
	until(t, "the weights have survived", func() bool { return of() == "drained 0, serving 7, serving 1" })
	if err := change(api.Weight{VIP: "vip1", Backend: "127.1.0.0"}); err != nil {
		t.Fatal(err)
	}
	until(t, "one is taken back", func() bool { return of() == "serving 1, serving 7, serving 1" })
}

// When the call that drains a backend comes back, no new connection goes there any more: whoever waits for it may begin to
// watch the open ones. However often, and while other rings wait for their turn.
func TestDrainIsInForce(t *testing.T) {
	p := newPart(t, Options{}, many(2, 3))
	r := p.running()
	v := r.vips[1]
	for round := range 10 {
		drained := v.members[round%3]
		var changes []api.Weight
		for _, m := range v.members {
			w := uint32(1)
			if m.name == drained.name {
				w = 0
			}
			changes = append(changes, api.Weight{VIP: "vip1", Backend: m.name, Weight: &w})
		}
		if err := invoke(t, p, api.MethodWeights, api.WeightsRequest{Changes: changes}, &struct{}{}); err != nil {
			t.Fatal(err)
		}
		if slices.Contains(r.table.Ring(v.id), drained.id) {
			t.Fatalf("round %d: the ring still has the drained backend", round)
		}
	}
}

// A check takes a backend down and up; one that comes back starts slowly. Which VIP nobody serves is said.
func TestChecksDecide(t *testing.T) {
	l, again := listen(t, "127.1.0.0:0")
	d := many(1, 1)
	d.VIPs[0].SlowStart = time.Hour
	d.VIPs[0].Check = &health.Check{Kind: health.TCP, Port: l.Port(), Interval: 10 * time.Millisecond, Timeout: time.Second, Rise: 1, Fall: 1}
	p := newPart(t, Options{}, d)
	state := func() string { return p.running().showVIPs("")[0].Backends[0].State }
	until(t, "it starts", func() bool { return state() == "starting" || state() == "serving" })
	again(false)
	until(t, "it is down", func() bool { return state() == "down" })
	if h, why := p.Health(); h != pluginpb.Event_DEGRADED || !strings.Contains(why, "no backend serves vip0") {
		t.Errorf("health is %v, %q", h, why)
	}
	again(true)
	until(t, "it starts again, slowly", func() bool { return state() == "starting" })
}

// The next process goes on with what the checks of the former one have found until its own have: it refuses nobody whom
// that one would have served, and nobody is sent to what was down.
func TestChecksOutliveTheProcess(t *testing.T) {
	up, _ := listen(t, "127.1.0.0:0")
	d := many(1, 2) // nobody listens on the second one's address
	d.VIPs[0].Check = &health.Check{Kind: health.TCP, Port: up.Port(), Interval: 10 * time.Millisecond, Timeout: time.Second, Rise: 1, Fall: 1}
	o := Options{State: controltest.NewMemoryState(), Pins: bpffs(t)}
	dispatched := func(p *Part) (up, down uint64) {
		members := p.running().vips[0].members
		return p.running().table.CreditOf(members[0].id).Dispatched, p.running().table.CreditOf(members[1].id).Dispatched
	}
	p := newPart(t, o, d)
	until(t, "both are known", func() bool {
		b := p.running().showVIPs("")[0].Backends
		return b[0].State == "serving" && b[1].State == "down" && b[1].Why != ""
	})
	until(t, "it is in the ring", func() bool {
		syn(t, p.running().table, 1)
		n, _ := dispatched(p)
		return n > 0
	})
	if err := p.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	o.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) { // no check comes to an end
		<-ctx.Done()
		return nil, ctx.Err()
	}
	d.VIPs[0].Check.Timeout = time.Hour
	p = newPart(t, o, d)
	before, _ := dispatched(p)
	for i := range 20 {
		syn(t, p.running().table, 2+i)
	}
	if n, down := dispatched(p); n != before+20 || down != 0 {
		t.Errorf("of 20 connections %d went to the backend that was up, %d to the one that was down", n-before, down)
	}
}

// What an agent has granted holds over a restart of the balancer: checks stand in for an agent that has been silent for long,
// not for one that has not had the time to speak to the new process.
func TestGrantOutlivesTheProcess(t *testing.T) {
	box := controltest.Server(t, controltest.Options{})
	d := many(1, 1)
	d.VIPs[0].ReportTTL = time.Minute
	d.VIPs[0].Backends[0].Host = "web0"
	d.VIPs[0].Check = &health.Check{Kind: health.TCP, Port: 9, Interval: time.Hour, Timeout: time.Hour, Rise: 1, Fall: 1}
	o := Options{State: controltest.NewMemoryState(), Pins: bpffs(t), Control: box.Server()}
	p := newPart(t, o, d)
	p.reported("web0", 0, reportOf(1, 1, 0, report.Component{Name: "web"}))
	p.reported("web0", 0, reportOf(1, 2, p.running().life, report.Component{Name: "web", Known: true, Limit: 5}))
	if err := p.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	p = newPart(t, o, d)
	r := p.running()
	for range 2 { // as it is found, and after a sweep
		if c := r.table.CreditOf(r.vips[0].members[0].id); c.Unlimited || c.Left != 5 {
			t.Errorf("credit is %+v, want the 5 that the agent has granted", c)
		}
		if err := r.ask(t.Context(), func() error { r.sweep(); return nil }); err != nil {
			t.Fatal(err)
		}
	}
}

// What is in both configurations stays; what left is gone; a change that only a new process can apply is refused.
func TestApply(t *testing.T) {
	p := newPart(t, Options{}, many(3, 4))
	before := p.running().table.CreditOf(p.running().vips[0].members[0].id)
	d := many(5, 3)
	d.VIPs = append(d.VIPs[:1], d.VIPs[2:]...)
	if err := p.Apply(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	r := p.running()
	if len(r.vips) != 4 || len(r.placed) != 3 || len(r.table.Counters().VIPs) != 4 {
		t.Errorf("%d VIPs, %d backends, %d in the table", len(r.vips), len(r.placed), len(r.table.Counters().VIPs))
	}
	if after := r.table.CreditOf(r.vips[0].members[0].id); after.Unlimited != before.Unlimited {
		t.Errorf("credit of a backend that stays was %+v, is %+v", before, after)
	}
	for i := range 50 { // each with its own backends: numbers are used again
		d := many(1, 40)
		for j := range d.VIPs[0].Backends {
			d.VIPs[0].Backends[j].Address = netip.AddrFrom4([4]byte{127, 2, byte(i), byte(j)})
		}
		if err := p.Apply(t.Context(), d); err != nil {
			t.Fatalf("configuration %d: %v", i, err)
		}
	}
	d.MTU = 9000
	if err := p.Apply(t.Context(), d); err == nil {
		t.Error("another MTU was applied to a running program")
	}
}

// As many VIPs and backends as there may be give way to as many others: the table takes both.
func TestRoomForTwoConfigurations(t *testing.T) {
	tab := newPart(t, Options{}, many(1, 1)).running().table
	backends, vips := make([]table.Backend, 2*maxBackends), make([]table.VIP, 2*maxVIPs)
	for i := range backends {
		backends[i] = table.Backend{Address: netip.AddrFrom4([4]byte{127, 1, byte(i >> 8), byte(i)}), Component: "web"}
	}
	for i := range vips {
		vips[i] = table.VIP{Address: netip.AddrFrom4([4]byte{192, 0, 2, 0}), Protocol: table.TCP, First: uint16(1 + i), Last: uint16(1 + i)}
	}
	if _, err := tab.SetBackends(backends); err != nil {
		t.Error(err)
	}
	if _, err := tab.SetVIPs(vips[maxVIPs:]); err != nil {
		t.Error(err)
	}
	if _, err := tab.SetVIPs(vips[:maxVIPs]); err != nil {
		t.Error(err)
	}
}

// A backend that a TCP VIP shares with a QUIC one keeps its server id, whichever comes first.
func TestServerIDOfSharedBackend(t *testing.T) {
	d := many(3, 1)
	d.VIPs[1].Key.Protocol = table.QUIC
	d.VIPs[1].Backends[0].QUICServerID = 7
	p := newPart(t, Options{}, d)
	for range 2 {
		if got := p.running().placed[0].QUICServerID; got != 7 {
			t.Errorf("the server id is %d, want 7", got)
		}
		d.VIPs[0], d.VIPs[1] = d.VIPs[1], d.VIPs[0]
		if err := p.Apply(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	d.VIPs[1].Backends[0].QUICServerID = 0
	if err := p.Apply(t.Context(), d); err != nil || p.running().placed[0].QUICServerID != 0 {
		t.Errorf("the server id is %d after it was taken away, %v", p.running().placed[0].QUICServerID, err)
	}
}

// hostsAt is a control channel with hosts that have joined from anywhere.
type hostsAt struct {
	*control.Server
	hosts []control.HostStatus
}

func (h hostsAt) Hosts() []control.HostStatus { return h.hosts }

// A host whose agent speaks from an address of a family for which there is no outer source is sent nothing, and is said so:
// packets would leave without a source and be lost.
func TestHostOfOtherFamily(t *testing.T) {
	box := controltest.Server(t, controltest.Options{})
	at := func(name, address string) control.HostStatus {
		return control.HostStatus{Name: name, Joined: true, Address: netip.MustParseAddrPort(address)}
	}
	d := many(1, 2)
	for i := range d.VIPs[0].Backends {
		d.VIPs[0].Backends[i] = Backend{Host: fmt.Sprintf("web%d", i), Weight: 1}
	}
	state := controltest.NewMemoryState()
	p := newPart(t, Options{State: state, Control: hostsAt{box.Server(), []control.HostStatus{at("web0", "127.1.0.0:7400"), at("web1", "[2001:db8::5]:7400")}}}, d)
	for range 2 { // and with the address that an earlier process has kept
		if _, why := p.Health(); !strings.Contains(why, "web1") || !strings.Contains(why, "source.ipv6") {
			t.Errorf("health says %q", why)
		}
		if placed := p.running().placed; len(placed) != 1 || !placed[0].Address.Is4() {
			t.Errorf("backends are %+v", placed)
		}
		if err := p.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		p = newPart(t, Options{State: state, Control: hostsAt{Server: box.Server()}}, d)
	}
}

// report is a host's datagram.
func reportOf(incarnation, sequence, balancer uint64, c ...report.Component) []byte {
	b, _ := report.Report{Incarnation: incarnation, Sequence: sequence, Balancer: balancer, Components: c}.Append(nil)
	return b
}

// Reports replayed, forged for another host's backend, of another life, or cut off change no credit.
func TestReportsAreJudged(t *testing.T) {
	box := controltest.Server(t, controltest.Options{})
	d := many(1, 2)
	for i := range d.VIPs[0].Backends {
		d.VIPs[0].Backends[i].Host = fmt.Sprintf("web%d", i)
	}
	p := newPart(t, Options{Control: box.Server()}, d)
	r := p.running()
	id := r.vips[0].members[0].id
	left := func() int64 { return r.table.CreditOf(id).Left }
	tell := func(host string, b []byte) []byte { return p.reported(host, 0, b) }
	web := func(limit uint32) report.Component { return report.Component{Name: "web", Known: true, Limit: limit} }

	if tell("web0", reportOf(1, 1, 0, web(50))); left() > 0 {
		t.Fatalf("a report without a beginning was believed: %d", left())
	}
	answer, err := report.ParseReply(tell("web0", reportOf(1, 2, 0, report.Component{Name: "web"})))
	if err != nil || answer.Incarnation != r.life || answer.TTL != time.Second {
		t.Fatalf("%+v, %v", answer, err)
	}
	good := reportOf(1, 3, r.life, web(50))
	if tell("web0", good); left() != 50 {
		t.Fatalf("credit is %d, want 50", left())
	}
	for name, c := range map[string]struct {
		host string
		b    []byte
	}{
		"replayed":              {"web0", good},
		"overtaken":             {"web0", reportOf(1, 2, r.life, web(900))},
		"of another life":       {"web0", reportOf(1, 4, r.life+2, web(900))},
		"of an agent of before": {"web0", reportOf(2, 9, r.life, web(900))},
		"of another host":       {"web1", reportOf(7, 1, r.life, web(900))},
		"of a stranger":         {"mallory", reportOf(8, 1, r.life, web(900))},
		"cut off":               {"web0", good[:len(good)-1]},
		"empty":                 {"web0", nil},
	} {
		if tell(c.host, c.b); left() != 50 {
			t.Errorf("a report that is %s has changed the credit to %d", name, left())
		}
	}
	if tell("web1", reportOf(7, 2, 0, report.Component{Name: "other"})); left() != 50 {
		t.Errorf("another component has changed the credit to %d", left())
	}
}

// A host is asked for a report when half of what its backend may have is gone, not of what the host could take: it would be
// asked without end.
func TestHintsAreForLowCredit(t *testing.T) {
	box := controltest.Server(t, controltest.Options{})
	d := many(1, 1)
	d.VIPs[0].Backends[0].Host = "web0"
	d.VIPs[0].Backends[0].Limit = 10
	p := newPart(t, Options{Control: box.Server()}, d)
	r := p.running()
	p.reported("web0", 0, reportOf(1, 1, 0, report.Component{Name: "web"}))
	p.reported("web0", 0, reportOf(1, 2, r.life, report.Component{Name: "web", Known: true, Limit: 1000}))
	hinted := func() bool {
		r.watchCredit()
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.vips[0].members[0].hinted
	}
	for client := range 6 {
		if got, want := hinted(), client >= 5; got != want {
			t.Errorf("asked after %d of 10 connections: %v, want %v", client, got, want)
		}
		syn(t, r.table, client)
	}
}

// While hosts report, packets take the credit: never more new flows than a report grants, also across reports.
func TestCreditIsSpent(t *testing.T) {
	box := controltest.Server(t, controltest.Options{})
	d := many(1, 1)
	d.VIPs[0].Backends[0].Host = "web0"
	p := newPart(t, Options{Control: box.Server()}, d)
	r := p.running()
	id := r.vips[0].members[0].id
	p.reported("web0", 0, reportOf(1, 1, 0, report.Component{Name: "web"}))
	sent := uint64(0)
	for round := range 5 {
		p.reported("web0", 0, reportOf(1, uint64(2+round), r.life, report.Component{Name: "web", Known: true, Limit: 5, Accepted: sent}))
		before := r.table.CreditOf(id).Dispatched
		for i := range 40 {
			syn(t, r.table, round*100+i)
		}
		got := r.table.CreditOf(id).Dispatched - before
		if got != 5 {
			t.Errorf("round %d: %d new flows on a credit of 5", round, got)
		}
		sent += got
	}
}

// syn gives the program a SYN of some client to the first VIP of many.
func syn(t testing.TB, tab *table.Table, client int) {
	t.Helper()
	if _, err := bpf.TestRun(tab.Program(), bpf.Run{Packet: synPacket(client), CPU: -1, Repeat: 1}); err != nil {
		t.Fatal(err)
	}
}

func synPacket(client int) []byte {
	source := netip.AddrFrom4([4]byte{198, 18, byte(client >> 8), byte(client)})
	ip := packet.IP{Src: source, Dst: netip.AddrFrom4([4]byte{192, 0, 2, 0})}
	return packet.Frame(packet.MAC{2, 0, 0, 0, 0, 1}, packet.MAC{2, 0, 0, 0, 0, 2}, packet.TCP{Src: 1024, Dst: 80, Flags: packet.SYN}.Segment(ip, nil))
}

// listen opens a TCP server that can be closed and opened again.
func listen(t *testing.T, address string) (at netip.AddrPort, open func(bool)) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	at = l.Addr().(*net.TCPAddr).AddrPort()
	return at, func(on bool) {
		if !on {
			l.Close()
			return
		}
		if l, err = net.Listen("tcp", at.String()); err != nil {
			t.Fatal(err)
		}
	}
}
