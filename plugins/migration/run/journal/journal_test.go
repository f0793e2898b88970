package journal_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/ratchetos/ratchet/plugins/migration/run/journal"
	"github.com/ratchetos/ratchet/plugins/migration/run/journal/journaltest"
)

const file = "moves.journal"

func open(t *testing.T, d journal.Disk, o journal.Options) (*journal.Journal, []journal.Record) {
	t.Helper()
	j, records, err := journal.Open(d, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return j, records
}

func add(t *testing.T, j *journal.Journal, n int) {
	t.Helper()
	for i := range n {
		if _, err := j.Append(journal.Record{Kind: journal.StepBegun, Move: "m", Step: i, Text: "ünïcode\n\x00"}); err != nil {
			t.Fatal(err)
		}
	}
}

// written is a journal of n records.
func written(t *testing.T, n int) []byte {
	t.Helper()
	d := &journaltest.Disk{}
	j, _ := open(t, d, journal.Options{})
	add(t, j, n)
	data, _ := d.Read(file)
	return data
}

func TestSurvivesRestart(t *testing.T) {
	dir := journal.Dir(t.TempDir())
	j, records := open(t, dir, journal.Options{})
	if len(records) != 0 {
		t.Fatalf("a new journal has %d records", len(records))
	}
	add(t, j, 3)
	j.Close()
	j, records = open(t, dir, journal.Options{})
	if len(records) != 3 || records[2].Seq != 3 || records[2].Step != 2 || records[2].Text != "ünïcode\n\x00" {
		t.Fatalf("read back %+v", records)
	}
	if r, err := j.Append(journal.Record{Kind: journal.Committed}); err != nil || r.Seq != 4 {
		t.Fatalf("append after restart: %d, %v", r.Seq, err)
	}
}

// TestTornTail cuts a journal off at every byte: what was whole before the cut is there, and it goes on from there.
func TestTornTail(t *testing.T) {
	data := written(t, 3)
	for cut := range len(data) {
		dir := t.TempDir()
		os.WriteFile(filepath.Join(dir, file), data[:cut], 0o600)
		j, records := open(t, journal.Dir(dir), journal.Options{})
		if want := max(0, bytes.Count(data[:cut], []byte{'\n'})-1); len(records) != want {
			t.Fatalf("cut at %d: %d records, want %d", cut, len(records), want)
		}
		add(t, j, 1)
		j.Close()
		_, again := open(t, journal.Dir(dir), journal.Options{})
		if len(again) != len(records)+1 {
			t.Fatalf("cut at %d, then appended: %d records, want %d", cut, len(again), len(records)+1)
		}
	}
}

// TestDamage flips each byte: no record is left out in silence, but for the last one without its newline.
func TestDamage(t *testing.T) {
	data := written(t, 3)
	for i := range data {
		bad := bytes.Clone(data)
		bad[i] ^= 0x10
		records, _, err := journal.Parse(bad)
		if torn := i == len(data)-1 && len(records) == 2 && err == nil; !torn && !errors.Is(err, journal.ErrDamaged) {
			t.Errorf("byte %d of %d flipped: %d records, %v", i, len(data), len(records), err)
		}
	}
}

func TestRefuses(t *testing.T) {
	lines := bytes.SplitAfter(written(t, 3), []byte{'\n'})
	header := func(h journal.Header) []byte {
		line, err := journal.Encode(h)
		if err != nil {
			t.Fatal(err)
		}
		return line
	}
	for what, c := range map[string]struct {
		data []byte
		want error
	}{
		"a record is missing":     {bytes.Join([][]byte{lines[0], lines[1], lines[3]}, nil), journal.ErrDamaged},
		"a record is repeated":    {bytes.Join([][]byte{lines[0], lines[1], lines[1]}, nil), journal.ErrDamaged},
		"the header is missing":   {bytes.Join(lines[1:], nil), journal.ErrDamaged},
		"another file":            {[]byte("# notes\n"), journal.ErrDamaged},
		"a newer version":         {header(journal.Header{Format: journal.Format, Version: journal.Version + 1}), journal.ErrNewer},
		"a feature of the future": {header(journal.Header{Format: journal.Format, Version: journal.Version, Features: 4}), journal.ErrNewer},
	} {
		dir := t.TempDir()
		os.WriteFile(filepath.Join(dir, file), c.data, 0o600)
		if _, _, err := journal.Open(journal.Dir(dir), journal.Options{}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", what, err, c.want)
		}
		if kept, _ := os.ReadFile(filepath.Join(dir, file)); !bytes.Equal(kept, c.data) {
			t.Errorf("%s: the refused journal was changed", what)
		}
	}
}

// TestFaults fails each call of the disk once. Afterwards, and after a crash, the journal has what Append confirmed,
// and not what it refused.
func TestFaults(t *testing.T) {
	for _, call := range []string{"write", "sync", "truncate"} {
		for at := range 4 {
			for _, torn := range []int{0, 20, 1 << 20} {
				n, d := 0, &journaltest.Disk{}
				j, _ := open(t, d, journal.Options{})
				d.Fault = func(c string) error {
					if call == "truncate" && c == "write" { // leads to a truncate
						return journaltest.ErrFault
					}
					if c == call {
						n++
						if n == at+1 {
							return journaltest.ErrFault
						}
					}
					return nil
				}
				confirmed, uncertain := 0, false
				for i := range 4 {
					switch _, err := j.Append(journal.Record{Kind: journal.StepDone, Step: i}); {
					case err == nil:
						confirmed++
					case errors.Is(err, journal.ErrUncertain):
						uncertain = true
					case uncertain:
						t.Errorf("%s %d: a record was taken after %v", call, at, journal.ErrUncertain)
					}
				}
				d.Fault = nil
				d.Crash(torn)
				_, records := open(t, d, journal.Options{})
				if got := len(records); got != confirmed && (!uncertain || got != confirmed+1) {
					t.Errorf("%s %d, %d bytes torn: %d records, %d were confirmed", call, at, torn, got, confirmed)
				}
			}
		}
	}
}

// TestMutantNoSync: a journal that does not sync forgets.
func TestMutantNoSync(t *testing.T) {
	d := &journaltest.Disk{}
	j, _ := open(t, d, journal.WithoutSync(journal.Options{}))
	add(t, j, 2)
	d.Crash(0)
	if _, records, _ := journal.Open(d, journal.Options{}); len(records) == 2 {
		t.Error("the test's disk keeps what was not synced: no test on it proves anything")
	}
}

func TestRewrite(t *testing.T) {
	for _, fault := range []string{"", "write", "sync", "replace"} {
		d := &journaltest.Disk{}
		j, _ := open(t, d, journal.Options{Large: 400})
		add(t, j, 5)
		if !j.Large() {
			t.Fatal("5 records are not large")
		}
		d.Fault = func(call string) error {
			if call == fault {
				return journaltest.ErrFault
			}
			return nil
		}
		kept := []journal.Record{{Kind: journal.Past, Move: "old"}, {Kind: journal.Planned, Move: "m", Plan: json.RawMessage(`{"id":"m"}`)}}
		if err := j.Rewrite(kept); (err == nil) != (fault == "") {
			t.Fatalf("rewrite with fault %q: %v", fault, err)
		}
		d.Fault = nil
		want := 6
		if fault == "" {
			want = 3
		}
		if _, err := j.Append(journal.Record{Kind: journal.Committed, Move: "m"}); fault == "replace" {
			if !errors.Is(err, journal.ErrUncertain) {
				t.Errorf("after a rename that may not last: %v", err)
			}
			want = 5
		} else if err != nil {
			t.Fatal(err)
		}
		d.Crash(0)
		if _, records := open(t, d, journal.Options{}); len(records) != want {
			t.Errorf("fault %q: %d records, want %d", fault, len(records), want)
		}
	}
}

func TestBounded(t *testing.T) {
	j, _ := open(t, &journaltest.Disk{}, journal.Options{Large: 100})
	var err error
	for i := 0; i < 100 && err == nil; i++ {
		_, err = j.Append(journal.Record{Kind: journal.StepDone, Step: i})
	}
	if !errors.Is(err, journal.ErrFull) {
		t.Errorf("100 records in a journal of 800 bytes: %v", err)
	}
	if _, err := j.Append(journal.Record{Kind: journal.Ended, Text: string(make([]byte, journal.MaxLine))}); err == nil {
		t.Error("a record of more than MaxLine was taken")
	}
}

func FuzzParse(f *testing.F) {
	for _, n := range []int{0, 1, 3} {
		d := &journaltest.Disk{}
		j, _, err := journal.Open(d, journal.Options{})
		if err != nil {
			f.Fatal(err)
		}
		for i := range n {
			j.Append(journal.Record{Kind: journal.StepDone, Step: i})
		}
		data, _ := d.Read(file)
		f.Add(data)
		f.Add(data[:len(data)/2])
	}
	f.Add([]byte("00000000 {}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		records, whole, err := journal.Parse(data)
		if err != nil {
			return
		}
		if whole > len(data) {
			t.Fatalf("%d of %d bytes are whole", whole, len(data))
		}
		// What is whole reads the same without what was torn.
		again, same, err := journal.Parse(data[:whole])
		if err != nil || same != whole || fmt.Sprint(again) != fmt.Sprint(records) {
			t.Fatalf("the whole part reads as %d records of %d bytes, %v", len(again), same, err)
		}
	})
}
