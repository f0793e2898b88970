package schedule

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
)

// TestScripts runs testdata/*.txt. Times are minutes after Monday 2 March 2026, 20:00; sizes are MiB, rates MiB/s.
//
//	lane NAME budget=N [hosts=a,b] [expected=N,N,… sure=N,N,…] [patience=F]   slots of 30 minutes
//	room HOST now=N [at=N] [sure=N/N/…]                slots of 30 minutes
//	window NAME from=HH:MM to=HH:MM [days=…]
//	job ID mem=N [takes=N] [dirty=N] [set=N] [priority=N] [from=H to=H] [via=a+b|c] [windows=…] [earliest=N] [before=N]
//	    [gap=D] [deadline=D] [post-copy] [throttle] [rate=N]
//	plan [at=N]          plans, and shows each decision
//	begin ID at=N, end ID, due at=N
//	admit mem=N rate=N [sure=N] …
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		s := &script{t: t}
		datadriven.RunTest(t, path, s.run)
	})
}

var monday = time.Date(2026, 3, 2, 20, 0, 0, 0, time.UTC)

type script struct {
	t       *testing.T
	lanes   []Lane
	rooms   []Room
	windows []Window
	engine  *Engine
	now     time.Time
}

const mib = 1 << 20

func (s *script) run(t *testing.T, d *datadriven.TestData) string {
	num := func(key string) float64 {
		if !d.HasArg(key) {
			return 0
		}
		var text string
		d.ScanArgs(t, key, &text)
		v, err := strconv.ParseFloat(text, 64)
		if err != nil {
			d.Fatalf(t, "%s: %v", key, err)
		}
		return v
	}
	word := func(key string) (text string) {
		if d.HasArg(key) {
			d.ScanArgs(t, key, &text)
		}
		return text
	}
	list := func(key string) []string {
		if word(key) == "" {
			return nil
		}
		return strings.Split(word(key), "/")
	}
	wait := func(key string) time.Duration {
		v, err := time.ParseDuration(word(key))
		if word(key) != "" && err != nil {
			d.Fatalf(t, "%s: %v", key, err)
		}
		return v
	}
	minute := func(key string) (at time.Time) {
		if d.HasArg(key) {
			at = monday.Add(time.Duration(num(key) * float64(time.Minute)))
		}
		return at
	}
	slots := func(key string) (out []float64) {
		for _, v := range list(key) {
			f, err := strconv.ParseFloat(v, 64)
			if err != nil {
				d.Fatalf(t, "%s: %v", key, err)
			}
			out = append(out, f*mib)
		}
		return out
	}
	load := Load{Bytes: uint64(num("mem") * mib), Dirty: num("dirty") * mib, WorkingSet: uint64(num("set") * mib)}
	policy := Policy{Gap: wait("gap"), Deadline: wait("deadline"), Throttle: d.HasArg("throttle"), PostCopy: d.HasArg("post-copy")}
	if s.engine == nil && d.Cmd != "window" {
		var err error
		if s.engine, err = NewEngine(s.windows); err != nil {
			return err.Error()
		}
	}
	name := ""
	if len(d.CmdArgs) > 0 {
		name = d.CmdArgs[0].Key
	}
	if at := minute("at"); !at.IsZero() {
		s.now = at
	} else if s.now.IsZero() {
		s.now = monday
	}
	switch d.Cmd {
	case "lane":
		l := Lane{
			Name: name, Hosts: list("hosts"), Budget: num("budget") * mib, From: monday, Step: 30 * time.Minute,
			Expected: slots("expected"), Sure: slots("sure"), Patience: num("patience"), Skilled: d.HasArg("patience"),
		}
		s.lanes = append(s.lanes, l)
		return ""
	case "room":
		s.rooms = slices.DeleteFunc(s.rooms, func(r Room) bool { return r.Host == name })
		s.rooms = append(s.rooms, Room{Host: name, Now: num("now") * mib, Looked: s.now, From: monday, Step: 30 * time.Minute, Sure: slots("sure")})
		return ""
	case "window":
		s.windows = append(s.windows, Window{Name: name, Days: word("days"), From: word("from"), To: word("to")})
		return ""
	case "job":
		j := Job{
			ID: name, VM: name, From: word("from"), To: word("to"), Memory: uint64(num("takes") * mib), Load: load, Policy: policy, Rate: num("rate") * mib,
			Priority: int(num("priority")), Windows: list("windows"), Earliest: minute("earliest"), Before: minute("before"),
		}
		for _, way := range list("via") {
			j.Via = append(j.Via, strings.Split(way, "+"))
		}
		if err := s.engine.Submit(j, s.now); err != nil {
			return err.Error()
		}
		return ""
	case "plan":
		var b strings.Builder
		for _, dec := range s.engine.Plan(s.now, s.lanes, s.rooms) {
			show(&b, dec)
		}
		return b.String()
	case "begin":
		s.engine.Begin(name, s.now)
		return ""
	case "end":
		s.engine.Remove(name)
		return ""
	case "due":
		var ids []string
		for _, dec := range s.engine.Due(s.now) {
			ids = append(ids, dec.ID)
		}
		return strings.Join(ids, " ")
	case "admit":
		sure := num("rate")
		if d.HasArg("sure") {
			sure = num("sure")
		}
		v := Admit(load, Constant(num("rate")*mib), Constant(sure*mib), policy)
		head := "denied"
		if v.Admitted {
			head = fmt.Sprintf("%s in %s (at most %s), gap %s, %s, %d passes", v.Mode, short(v.Total), short(v.Latest), short(v.Gap), Bytes(v.Bytes), v.Passes)
		}
		return head + "\n  " + strings.Join(v.Why, "\n  ")
	}
	d.Fatalf(t, "unknown command %s", d.Cmd)
	return ""
}

func show(b *strings.Builder, d Decision) {
	fmt.Fprintf(b, "%s %s", d.ID, d.State)
	if d.State != Denied {
		fmt.Fprintf(b, " %s – %s on %s", d.Start.Format("15:04:05"), d.End.Format("15:04:05"), strings.Join(d.Links, "+"))
	}
	for _, w := range d.Why {
		fmt.Fprintf(b, "\n  %s", w)
	}
	b.WriteByte('\n')
}
