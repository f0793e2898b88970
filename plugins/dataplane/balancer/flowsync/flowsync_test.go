package flowsync

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func record(i int) Record {
	return Record{
		Protocol: 6, Backend: uint64(i), Client: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)}), uint16(i)),
		Local: netip.MustParseAddrPort("198.51.100.1:80"),
	}
}

var compareAddresses = cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })

func TestRoundTrip(t *testing.T) {
	records := []Record{record(1), {
		Ended: true, Protocol: 17, Client: netip.MustParseAddrPort("[2001:db8::9]:1234"), Local: netip.MustParseAddrPort("[2001:db8::80]:443"), Backend: 1 << 63,
	}}
	b := AppendBatch(nil, records)
	got, err := ParseBatch(b)
	if err != nil || !cmp.Equal(records, got, compareAddresses) {
		t.Errorf("%v %s", err, cmp.Diff(records, got, compareAddresses))
	}
	for n := range b {
		if _, err := ParseBatch(b[:n]); err == nil {
			t.Errorf("a batch cut at %d was read", n)
		}
	}
	page := Page{Next: 7, Backends: []uint64{5, 6}, Entries: []Entry{{Line: 1, Fingerprint: 1 << 47, Backend: 1, State: 2, Idle: 90 * time.Second}}}
	if got, err := ParsePage(page.Append(nil)); err != nil || !cmp.Equal(page, got) {
		t.Errorf("%v %s", err, cmp.Diff(page, got))
	}
	page.Entries[0].Backend = 2
	if _, err := ParsePage(page.Append(nil)); err == nil {
		t.Error("an entry of a backend that is not named was read")
	}
}

// Over a network that loses half of all batches and acknowledgements, every record arrives or the window says that it
// is out of step; it never holds more than its bound.
func TestWindow(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 0))
		w, got, now := NewWindow(4), map[uint64]bool{}, time.Duration(0)
		added := 0
		for range 400 {
			if rng.IntN(3) == 0 {
				w.Add([]Record{record(added)})
				added++
			}
			out, _ := w.Step(now, 10)
			for _, s := range out {
				if rng.IntN(2) == 0 {
					continue
				}
				for _, r := range s.Records {
					got[r.Backend] = true
				}
				if rng.IntN(2) == 0 {
					w.Acknowledged(s.ID)
				}
			}
			now += 5
			if w.Waiting() > 8*MaxBatch {
				t.Fatalf("seed %d: %d records wait", seed, w.Waiting())
			}
		}
		for range 1000 {
			out, wait := w.Step(now, 10)
			for _, s := range out {
				for _, r := range s.Records {
					got[r.Backend] = true
				}
				w.Acknowledged(s.ID)
			}
			if now += wait; wait == 0 {
				break
			}
		}
		if w.InStep() && len(got) != added {
			t.Errorf("seed %d: %d of %d records arrived, and the window claims to be in step", seed, len(got), added)
		}
	}
}

func TestWindowOverrun(t *testing.T) {
	w := NewWindow(2)
	for i := range 10 * MaxBatch {
		w.Add([]Record{record(i)})
	}
	if w.InStep() || w.Waiting() != 0 {
		t.Errorf("in step %v with %d waiting", w.InStep(), w.Waiting())
	}
	w.Restart()
	w.Add([]Record{record(1)})
	for range maxTries {
		if out, _ := w.Step(time.Hour, 0); len(out) != 1 || !w.InStep() {
			t.Fatalf("sent %d, in step %v", len(out), w.InStep())
		}
	}
	if out, _ := w.Step(2*time.Hour, 0); len(out) != 0 || w.InStep() {
		t.Error("a batch was sent without end")
	}
}

// One encoding each: what is read is written again byte for byte, but for the fractions that idle times have not.
func FuzzParse(f *testing.F) {
	f.Add(AppendBatch(nil, []Record{record(1), record(2)}))
	f.Add(Page{Next: 7, Backends: []uint64{5}, Entries: []Entry{{Line: 1, Idle: time.Second}}}.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := ParseBatch(b); err == nil && !bytes.Equal(AppendBatch(nil, r), b) {
			t.Errorf("batch %+v is written in another way", r)
		}
		if p, err := ParsePage(b); err == nil && !bytes.Equal(p.Append(nil), b) {
			t.Errorf("page %+v is written in another way", p)
		}
	})
}
