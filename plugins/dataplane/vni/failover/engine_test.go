package failover

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
)

// script is an engine and hosts that are driven by a file of testdata:
//
//	new [self=1 peers=1 voters=(h1,h2)]  a box; term=7 vni=1@5:h1/a is what an earlier process stored
//	define 1 h1/a h2/b ; 2 …             VNIs with their candidates; an interface a line
//	beat h1 [term=… sick=a loose=a behind new unled=2s late]   a beat as of the present version; loose: not attached
//	pull h1 [knows=1/a@5+]               an assignment; + attached
//	hosts h1 h2 [for=200ms deaf=h1]      beat every 50 ms and pull, in lockstep with the clock and ticks
//	stored 1 | term                      what the engine wanted durable is
//	move 1 h2/b
//	wait 100ms                           ticks every 10 ms, nobody beats
//	status
//
// Each answers with what the engine says and wants done.
type script struct {
	now    time.Duration
	e      *Engine
	m      mutant
	term   uint64
	stores map[uint32]Record
	hosts  map[string]*scriptHost
	out    strings.Builder
}

type scriptHost struct {
	incarnation, number uint64
	a                   Assignment
	echo                time.Duration
}

func (s *script) host(name string) *scriptHost {
	if s.hosts[name] == nil {
		s.hosts[name] = &scriptHost{incarnation: 1}
	}
	return s.hosts[name]
}

func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) {
			s := &script{}
			datadriven.RunTest(t, f, s.run)
		})
	}
}

// Each rule is needed: without it some script ends otherwise.
func TestScriptsCatchMutants(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.txt")
	for name, m := range map[string]mutant{
		"fence not awaited": fenceNotAwaited, "grant for a version not carried out": grantBehind,
		"grant without a majority": grantWithoutQuorum, "new leader moves at once": settleNotAwaited,
		"epoch used before it is durable": epochNotStored,
	} {
		t.Run(name, func(t *testing.T) {
			caught := 0
			for _, f := range files {
				s := &script{m: m}
				datadriven.RunTest(t, f, func(t *testing.T, d *datadriven.TestData) string {
					if s.run(t, d) != d.Expected {
						caught++
					}
					return d.Expected
				})
			}
			if caught == 0 {
				t.Error("survived")
			}
		})
	}
}

func (s *script) run(t *testing.T, d *datadriven.TestData) string {
	t.Helper()
	s.out.Reset()
	switch d.Cmd {
	case "new":
		s.new(t, d)
	case "define":
		s.e.Define(s.now, interfaces(t, d.Input))
	case "beat":
		name, flags := d.CmdArgs[0].Key, d.CmdArgs[1:]
		s.show("%s", s.beat(name, flags))
	case "pull":
		s.pull(t, d)
	case "hosts":
		s.together(d)
	case "stored":
		s.stored(t, d)
	case "move":
		id, _ := strconv.Atoi(d.CmdArgs[0].Key)
		if err := s.e.Move(s.now, uint32(id), candidateOf(d.CmdArgs[1].Key)); err != nil {
			s.show("%v", err)
		}
	case "wait":
		for end := s.now + duration(d.CmdArgs[0].Key); s.now < end; {
			s.tick()
		}
	case "status":
		s.status()
	default:
		t.Fatalf("unknown command %s", d.Cmd)
	}
	s.actions()
	if s.out.Len() == 0 {
		return "-\n"
	}
	return s.out.String()
}

func (s *script) show(format string, args ...any) {
	fmt.Fprintf(&s.out, "%v "+format+"\n", append([]any{s.now}, args...)...)
}

func (s *script) tick() {
	s.now += 10 * time.Millisecond
	s.e.Tick(s.now)
	s.actions()
}

func (s *script) actions() {
	for _, a := range s.e.Take() {
		switch a := a.(type) {
		case StoreTerm:
			s.term = a.Term
			s.show("store term %s", term(a.Term))
		case Store:
			s.stores[a.Interface] = a.Record
			s.show("store VNI %d: epoch %d at %s", a.Interface, a.Record.Epoch, a.Record.Owner)
		case Poke:
			s.show("poke %s: version %d", a.Host, a.Reply.Version)
		case Moved:
			how := "down"
			if a.Location.Up {
				how = "up at " + a.Location.Holder.String()
			}
			s.show("VNI %d %s, epoch %d", a.Location.Interface.ID, how, a.Location.Epoch)
		case Note:
			s.show("# %s", a.Text)
		}
	}
}

func term(t uint64) string { return fmt.Sprintf("%d/%d", t>>8, t&0xff) }

func (s *script) new(t *testing.T, d *datadriven.TestData) {
	o := Options{mutant: s.m}
	var voters []string
	if s.hosts == nil {
		s.hosts = map[string]*scriptHost{}
	}
	s.stores = map[uint32]Record{}
	records, last := map[uint32]Record{}, uint64(0)
	for _, a := range d.CmdArgs {
		for _, v := range a.Vals {
			n, _ := strconv.Atoi(v)
			switch a.Key {
			case "self":
				o.Self = uint8(n)
			case "peers":
				o.Peers = n
			case "voters":
				voters = append(voters, v)
			case "term":
				last = uint64(n) << 8
			case "vni":
				k := knownOf(t, v)
				records[k.Interface] = Record{k.Epoch, candidateOf(k.Instance)}
			}
		}
	}
	s.e = New(o)
	s.e.Voters(voters)
	s.e.Define(s.now, interfaces(t, d.Input))
	s.e.Restore(last, records)
}

func interfaces(t *testing.T, text string) []Interface {
	t.Helper()
	var out []Interface
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		id, err := strconv.Atoi(f[0])
		if err != nil {
			t.Fatal(err)
		}
		i := Interface{ID: uint32(id)}
		for _, c := range f[1:] {
			i.Candidates = append(i.Candidates, candidateOf(c))
		}
		out = append(out, i)
	}
	return out
}

func candidateOf(s string) Candidate {
	host, instance, _ := strings.Cut(s, "/")
	return Candidate{host, instance}
}

func duration(s string) time.Duration {
	d, err := time.ParseDuration(s)
	if err != nil {
		panic(err)
	}
	return d
}

// knownOf reads VNI:INSTANCE@EPOCH[+], or HOST/INSTANCE in place of INSTANCE.
func knownOf(t *testing.T, s string) Known {
	t.Helper()
	rest, attached := strings.CutSuffix(s, "+")
	id, rest, _ := strings.Cut(rest, ":")
	instance, epoch, _ := strings.Cut(rest, "@")
	i, err := strconv.Atoi(id)
	e, err2 := strconv.Atoi(epoch)
	if err != nil || err2 != nil {
		t.Fatalf("%s is not VNI:INSTANCE@EPOCH", s)
	}
	return Known{uint32(i), instance, uint64(e), attached}
}

func (s *script) beat(name string, flags []datadriven.CmdArg) string {
	h := s.host(name)
	h.number++
	b := Beat{Incarnation: h.incarnation, Number: h.number, Term: h.a.Term, Version: h.a.Version, Echo: h.echo}
	var sick, loose []string
	for _, f := range flags {
		switch f.Key {
		case "sick":
			sick = f.Vals
		case "loose":
			loose = f.Vals
		case "behind":
			b.Version--
		case "term":
			n, _ := strconv.Atoi(f.Vals[0])
			b.Term = uint64(n)<<8 | 2
		case "unled":
			b.Unled = duration(f.Vals[0])
		case "late":
			b.Number -= 2
		case "new":
			h.incarnation, h.number, h.a = h.incarnation+1, 1, Assignment{Term: h.a.Term}
			b = Beat{Incarnation: h.incarnation, Number: 1, Term: h.a.Term}
		}
	}
	if b.Version == h.a.Version {
		for _, e := range h.a.Entries {
			dead := slices.Contains(sick, e.Instance)
			b.States = append(b.States, EntryState{!dead, e.Attached && !dead && !slices.Contains(loose, e.Instance)})
		}
	}
	r := s.e.Beat(s.now, name, b)
	if r.Leads && r.Term > h.a.Term {
		h.a = Assignment{Term: r.Term}
	}
	if r.Leads {
		h.echo = r.Echo
	}
	lease := "no lease"
	if r.Lease > 0 {
		lease = fmt.Sprint("lease ", r.Lease)
	}
	if !r.Leads {
		return fmt.Sprintf("%s: not leading, term %s", name, term(r.Term))
	}
	return fmt.Sprintf("%s: term %s version %d, %s", name, term(r.Term), r.Version, lease)
}

func (s *script) pull(t *testing.T, d *datadriven.TestData) {
	name := d.CmdArgs[0].Key
	var knows []Known
	for _, a := range d.CmdArgs[1:] {
		for _, v := range a.Vals {
			knows = append(knows, knownOf(t, v))
		}
	}
	s.take(name, knows, true)
}

func (s *script) take(name string, knows []Known, loud bool) {
	a, ok := s.e.Pull(s.now, name, knows)
	if !ok {
		s.show("%s: refused", name)
		return
	}
	s.host(name).a = a
	if !loud {
		return
	}
	for _, e := range a.Entries {
		how := "stands by"
		if e.Attached {
			how = "attached"
		}
		s.show("%s: version %d, VNI %d %s at epoch %d %s", name, a.Version, e.Interface, e.Instance, e.Epoch, how)
	}
}

// together lets hosts beat and pull as agents do, and shows only what the engine wants.
func (s *script) together(d *datadriven.TestData) {
	span := 200 * time.Millisecond
	var names []string
	var flags []datadriven.CmdArg
	deaf := ""
	for _, a := range d.CmdArgs {
		switch {
		case a.Key == "deaf":
			deaf = a.Vals[0]
		case a.Key == "for":
			span = duration(a.Vals[0])
		case len(a.Vals) == 0:
			names = append(names, a.Key)
		default:
			flags = append(flags, a)
		}
	}
	for end := s.now + span; s.now < end; {
		for _, name := range names {
			h := s.host(name)
			if name == deaf {
				s.beat(name, []datadriven.CmdArg{{Key: "behind"}})
				continue
			}
			s.beat(name, flags)
			for h.a.Version != s.e.hosts[name].want {
				s.take(name, nil, false)
				s.beat(name, flags)
			}
			s.actions()
		}
		for range 5 {
			s.tick()
		}
	}
}

func (s *script) stored(t *testing.T, d *datadriven.TestData) {
	for _, a := range d.CmdArgs {
		if a.Key == "term" {
			s.e.TermStored(s.now, s.term)
			continue
		}
		id, err := strconv.Atoi(a.Key)
		if err != nil {
			t.Fatal(err)
		}
		s.e.Stored(s.now, uint32(id), s.stores[uint32(id)])
	}
}

func (s *script) status() {
	for _, v := range s.e.Status(s.now) {
		var all []string
		for _, c := range v.Candidates {
			word := c.String()
			switch {
			case c.Eligible:
				word += " ready"
			case c.Healthy:
				word += " held back"
			}
			if c.Failures > 0 {
				word += fmt.Sprintf(" (%d failures)", c.Failures)
			}
			all = append(all, word)
		}
		s.show("VNI %d %s by %s, epoch %d: %s", v.Interface.ID, v.State, v.Holder, v.Epoch, strings.Join(all, ", "))
	}
}
