package table

import (
	"encoding/binary"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/plugins/dataplane/bpf"
	"github.com/ratchetos/ratchet/plugins/dataplane/bpf/lb/mutant"
	"github.com/ratchetos/ratchet/plugins/internal/packet"
)

// TestCredit: a host can take five more; 10,000 clients come at once on two CPUs. D1, and its mutant.
func TestCredit(t *testing.T) {
	if n := storm(t, mutant.None, 5, 5_000); n != 5 {
		t.Errorf("credit 5, and %d flows were let in", n)
	}
	if n := storm(t, mutant.None, 20_000, 40_000); n != 20_000 {
		t.Errorf("credit 20,000, and %d flows were let in", n)
	}
	for range 100 { // two CPUs must meet; a busy machine may run one after the other
		if storm(t, mutant.CreditNotAtomic, 20_000, 40_000) > 20_000 {
			return
		}
	}
	if runtime.NumCPU() > 1 {
		t.Error("the mutant was not noticed")
	}
}

// storm counts the flows that SYNs of as many clients open, half of them on each of two CPUs at the same time.
func storm(t *testing.T, m uint32, limit uint32, each int) uint64 {
	r := newRig(t, mutated(Options{Flows: 1 << 17}, m), 1)
	r.setCredit(r.backends[0], Credit{Seq: 1, Limit: limit, TTL: time.Hour})
	var threads sync.WaitGroup
	var running atomic.Int32
	for cpu := range 2 {
		frame := client(cpu<<16).tcp(packet.SYN, "")
		threads.Go(func() {
			alone(t, cpu%r.cpus)
			running.Add(1)
			for running.Load() < int32(min(2, runtime.NumCPU())) { // both are on their CPU, and nobody is before them
			}
			// One run a call: the kernel lets only one caller begin a loop of its own at a time.
			for i := range each {
				binary.BigEndian.PutUint16(frame[34:], uint16(1024+i))
				if _, err := bpf.TestRun(r.Program(), bpf.Run{Packet: frame}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	threads.Wait()
	for _, v := range r.Counters().VIPs {
		if v.ID == r.vips[0] {
			return v.NewFlows
		}
	}
	return 0
}

// TestEntriesAtOnce: two CPUs enter flows into the same lines at the same time, and none is lost (D2), unless entries are
// stored where they should be compared and swapped.
func TestEntriesAtOnce(t *testing.T) {
	if n := meet(t, mutant.None, 5000); n != 0 {
		t.Errorf("flows were lost in %d rounds", n)
	}
	for range 100 { // two CPUs must meet; a busy machine may run one after the other
		if meet(t, mutant.BlindStore, 1000) > 0 {
			return
		}
	}
	if runtime.NumCPU() > 1 {
		t.Error("the mutant was not noticed")
	}
}

// meet lets two CPUs enter four flows each into an empty table of eight lines, of which each has room for all, and counts
// the rounds after which some are not there.
func meet(t *testing.T, m uint32, rounds int) (lost int) {
	const each = 4
	r := newRig(t, mutated(Options{Flows: 64}, m), 1)
	var threads sync.WaitGroup
	var arrived, sent atomic.Int64
	together := func(stop int64) { // until both have come to their next stop
		arrived.Add(1)
		for arrived.Load() < 2*stop {
		}
	}
	cpus := min(2, runtime.NumCPU())
	if cpus < 2 {
		return 0
	}
	for cpu := range cpus {
		frame := client(cpu<<16).tcp(packet.SYN, "")
		threads.Go(func() {
			alone(t, cpu%r.cpus)
			for round := range int64(rounds) {
				together(2*round + 1)
				for i := range each {
					binary.BigEndian.PutUint16(frame[34:], uint16(1024+(int(round)*each+i)%50_000))
					result, err := bpf.TestRun(r.Program(), bpf.Run{Packet: frame})
					if err != nil {
						t.Error(err)
					}
					if result.Verdict == xdpTX {
						sent.Add(1)
					}
				}
				together(2*round + 2)
				if cpu == 0 {
					if got := r.Count().Total(); int64(got) != sent.Swap(0) {
						lost++
					}
					r.forget()
				}
			}
		})
	}
	threads.Wait()
	return lost
}

// alone gives the goroutine a CPU before every thread that is not real-time, until it ends.
func alone(t testing.TB, cpu int) {
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine, and its policy with it
	var one unix.CPUSet
	one.Set(cpu)
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		t.Error(err)
	}
	fifo := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1}
	if err := unix.SchedSetAttr(0, &fifo, 0); err != nil {
		t.Logf("no real-time priority, the race may need more tries: %v", err)
	}
}

// TestCreditOfReports steps through what hosts say and what is left.
func TestCreditOfReports(t *testing.T) {
	r := newRig(t, Options{}, 1)
	b := r.backends[0]
	next := 0
	open := func(n int) (got int) {
		for range n {
			if r.send(client(next).tcp(packet.SYN, "")).Verdict == xdpTX {
				got++
			}
			next++
		}
		return got
	}
	for _, step := range []struct {
		what   string
		report Credit
		err    error
		ask    int
		want   int
	}{
		{"first report", Credit{Seq: 1, Limit: 3, Accepted: 100, TTL: time.Minute}, nil, 5, 3},
		{"none accepted yet: all three are on their way", Credit{Seq: 2, Limit: 3, Accepted: 100, TTL: time.Minute}, nil, 2, 0},
		{"three accepted, two more may come", Credit{Seq: 3, Limit: 2, Accepted: 103, TTL: time.Minute}, nil, 5, 2},
		{"an old report grants nothing", Credit{Seq: 3, Limit: 50, Accepted: 105, TTL: time.Minute}, ErrStale, 5, 0},
		{"full", Credit{Seq: 4, Limit: 0, Accepted: 105, TTL: time.Minute}, nil, 5, 0},
		{"accepted more than we sent: another balancer's", Credit{Seq: 5, Limit: 4, Accepted: 150, TTL: time.Minute}, nil, 9, 4},
		{"the reporter began anew", Credit{Seq: 1, Limit: 2, Accepted: 0, TTL: time.Minute, Restarted: true}, nil, 9, 2},
		{"its count fell back", Credit{Seq: 2, Limit: 1, Accepted: 0, TTL: time.Minute}, nil, 9, 0},
		{"no longer watched", Credit{Unlimited: true}, nil, 9, 9},
		{"watched again", Credit{Seq: 1, Limit: 1, Accepted: 7, TTL: time.Minute}, nil, 9, 1},
	} {
		if err := r.SetCredit(b, step.report); !errors.Is(err, step.err) {
			t.Fatalf("%s: %v", step.what, err)
		}
		if got := open(step.ask); got != step.want {
			t.Errorf("%s: %d of %d let in, want %d; %+v", step.what, got, step.ask, step.want, r.CreditOf(b))
		}
	}
}

// TestReportRunsOut: the program itself stops believing a report.
func TestReportRunsOut(t *testing.T) {
	late := func(m uint32) (n int) {
		r := newRig(t, mutated(Options{}, m), 1)
		r.setCredit(r.backends[0], Credit{Seq: 1, Limit: 1000, TTL: time.Nanosecond})
		for r.CreditOf(r.backends[0]).Expires > -20*time.Millisecond { // the program's clock is coarse
			runtime.Gosched()
		}
		for i := range 10 {
			if r.send(client(i).tcp(packet.SYN, "")).Verdict == xdpTX {
				n++
			}
		}
		return n
	}
	if n := late(mutant.None); n != 0 {
		t.Errorf("%d flows let in on a report that had run out", n)
	}
	if late(mutant.StaleReport) == 0 {
		t.Error("the mutant was not noticed")
	}
}

// TestCreditComesBack: repeated SYNs take one credit; a flow that is never finished gives it back, once, when it is
// reset, swept, or gives way to another.
func TestCreditComesBack(t *testing.T) {
	run := func(m uint32) (left [4]int64) {
		r := newRig(t, mutated(Options{Flows: 64}, m), 1)
		b := r.backends[0]
		grant := func() { r.setCredit(b, Credit{Seq: r.CreditOf(b).Seq + 1, Limit: 10, TTL: time.Hour, Restarted: true}) }
		grant()
		for range 4 {
			r.send(client(1).tcp(packet.SYN, ""))
		}
		left[0] = r.CreditOf(b).Left
		r.send(client(1).tcp(packet.RST, ""))
		r.send(client(1).tcp(packet.RST, ""))
		left[1] = r.CreditOf(b).Left

		r.forget()
		grant()
		for i := range 7 {
			r.send(client(i).tcp(packet.SYN, ""))
		}
		r.send(client(0).tcp(packet.ACK, "")) // this one is finished
		for i := range r.shared.flows.Elems { // all are as old as half a minute
			for s := range r.shared.flows.Elems[i].Entry {
				if e := &r.shared.flows.Elems[i].Entry[s]; *e != 0 && packed(*e).halfOpen() {
					*e = *e&^(255<<23) | uint64(Opening.seenAt(bpf.Now())-30)<<23
				}
			}
		}
		r.Sweep(Timeouts{})
		left[2] = r.CreditOf(b).Left

		// 64 places, 1,000 half-open flows: those that gave way took nothing with them.
		r.forget()
		r.setCredit(b, Credit{Seq: 1 << 40, Limit: 1000, TTL: time.Hour, Restarted: true})
		for i := range 1000 {
			r.send(client(i).tcp(packet.SYN, ""))
		}
		left[3] = r.CreditOf(b).Left
		return left
	}
	got := run(mutant.None)
	if want := [4]int64{9, 10, 9, 1000 - 64}; got != want {
		t.Errorf("credit left: %v, want %v", got, want)
	}
	for _, m := range []uint32{mutant.CreditKept, mutant.SYNRepeats} {
		if run(m) == got {
			t.Errorf("mutant %d was not noticed", m)
		}
	}
}

// TestExhausted: what a new flow meets when nobody has credit, and that the old ones meet nothing.
func TestExhausted(t *testing.T) {
	for _, c := range []struct {
		policy  Exhausted
		verdict uint32
		counted string
	}{
		{Drop, xdpDrop, "exhausted 1"},
		{Reset, xdpTX, "exhausted 1, reset sent 1"},
		{LastWeights, xdpTX, "-"},
	} {
		r := newRig(t, Options{}, 3)
		r.setVIPs(VIP{Address: vip4, Protocol: TCP, First: 80, Last: 80, Exhausted: c.policy}, VIP{Address: vip6, Protocol: TCP, First: 80, Last: 80, Exhausted: c.policy})
		old := newCrowd(t, r, 50)
		for _, b := range r.backends {
			r.setCredit(b, Credit{Seq: 1, Limit: 0, TTL: time.Minute})
		}
		for _, ip := range []packet.IP{to4, to6} {
			since := reasons{}
			r.grown(since)
			in := tcp80(ip, packet.SYN, nil)
			res := r.send(in)
			if got := r.grown(since); res.Verdict != c.verdict || got != c.counted {
				t.Errorf("policy %d, %v: verdict %d, counted %q", c.policy, ip.Src, res.Verdict, got)
			}
			if c.policy == Reset {
				back := packet.TCP{Src: 80, Dst: 4000, Ack: 8, Flags: packet.RST | packet.ACK}
				want := packet.Frame(routerMAC, boxMAC, back.Segment(packet.IP{Src: ip.Dst, Dst: ip.Src, DF: true}, nil))
				if d := packet.Diff(want, res.Packet); d != "" {
					t.Errorf("reset to %v:\n%s", ip.Src, d)
				}
			}
		}
		if n := old.moved(1); n != 0 {
			t.Errorf("policy %d: %d old flows moved", c.policy, n)
		}
	}
}
