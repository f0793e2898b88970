package report

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var (
	someReport = Report{Incarnation: 7, Sequence: 1 << 40, Balancer: 9, Components: []Component{
		{Name: "web", Known: true, Limit: 5, Accepted: 1<<32 + 1}, {Name: "a-first-word"},
	}}
	someReply = Reply{Incarnation: 9, Sequence: 3, TTL: 2 * time.Second, Components: []Dispatched{
		{Name: "web", Status: Applied, Dispatched: 12}, {Name: "x", Status: Rebase},
	}}
)

func TestRoundTrip(t *testing.T) {
	b, err := someReport.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Parse(b); err != nil || !cmp.Equal(got, someReport) {
		t.Errorf("%v, %v", cmp.Diff(someReport, got), err)
	}
	if want := reportHeader + EntrySize("web") + EntrySize("a-first-word"); len(b) != want {
		t.Errorf("%d bytes, EntrySize says %d", len(b), want)
	}
	if b, err = someReply.Append(nil); err != nil {
		t.Fatal(err)
	}
	if got, err := ParseReply(b); err != nil || !cmp.Equal(got, someReply) {
		t.Errorf("%v, %v", cmp.Diff(someReply, got), err)
	}
}

// Every prefix of a message is refused, and so is every message with something behind it.
func TestNoOtherLength(t *testing.T) {
	report, _ := someReport.Append(nil)
	reply, _ := someReply.Append(nil)
	for n := range report {
		if _, err := Parse(report[:n]); err == nil {
			t.Errorf("a report cut at %d was read", n)
		}
	}
	for n := range reply {
		if _, err := ParseReply(reply[:n]); err == nil {
			t.Errorf("a reply cut at %d was read", n)
		}
	}
	if _, err := Parse(append(report, 0)); err == nil {
		t.Error("a report with a byte behind it was read")
	}
	if _, err := ParseReply(append(reply, 0)); err == nil {
		t.Error("a reply with a byte behind it was read")
	}
}

func TestEncoderRefuses(t *testing.T) {
	long := string(make([]byte, MaxName+1))
	for _, r := range []Report{
		{Components: []Component{{}}},
		{Components: []Component{{Name: long}}},
		{Components: make([]Component, MaxEntries+1)},
	} {
		if _, err := r.Append(nil); err == nil {
			t.Errorf("a report that nobody can read was written: %d entries", len(r.Components))
		}
	}
}

// What is read is written again byte for byte: there is one encoding of each report and reply.
func FuzzParse(f *testing.F) {
	report, _ := someReport.Append(nil)
	reply, _ := someReply.Append(nil)
	f.Add(report)
	f.Add(reply)
	f.Add([]byte{1, 0, 255, 255})
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := Parse(b); err == nil {
			if again, err := r.Append(nil); err != nil || !bytes.Equal(again, b) {
				t.Fatalf("report %+v: written as %x, %v", r, again, err)
			}
		}
		if r, err := ParseReply(b); err == nil {
			if again, err := r.Append(nil); err != nil || !bytes.Equal(again, b) {
				t.Fatalf("reply %+v: written as %x, %v", r, again, err)
			}
		}
	})
}
