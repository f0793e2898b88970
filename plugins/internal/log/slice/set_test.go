package slice

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"reflect"
	"sync"
	"testing"

	"github.com/ratchetos/ratchet/plugins/internal/log"
	"github.com/ratchetos/ratchet/plugins/internal/log/simdisk"
)

const testSize = 9 << 20

func newSet(t *testing.T) (*Set, *simdisk.Disk) {
	t.Helper()
	d := simdisk.New(testSize)
	if err := Format(d, [16]byte{7}); err != nil {
		t.Fatal(err)
	}
	s, err := Open(d)
	if err != nil {
		t.Fatal(err)
	}
	return s, d
}

func names(list []Info) (s string) {
	for _, i := range list {
		s += fmt.Sprintf("%s@%d+%d*%d ", i.Name, i.Off>>20, i.Size>>20, i.Share)
	}
	return s
}

func TestTable(t *testing.T) {
	s, d := newSet(t)
	step := func(want string, err, wantErr error) {
		t.Helper()
		if !errors.Is(err, wantErr) || err != nil && wantErr == nil {
			t.Fatalf("got %v, want %v", err, wantErr)
		}
		again, err := Open(d)
		if err != nil {
			t.Fatal(err)
		}
		if got := names(again.Slices()); got != want || !reflect.DeepEqual(again.Slices(), s.Slices()) {
			t.Fatalf("table is %q, want %q; in memory %q", got, want, names(s.Slices()))
		}
	}
	create := func(name string, size, share int64) error {
		_, err := s.Create(Info{Name: name, ID: [16]byte{1}, Size: size << 20, Share: share})
		return err
	}
	step("a@1+2*3 ", create("a", 2, 3), nil)
	step("a@1+2*3 b@3+4*1 ", create("b", 4, 0), nil)
	step("a@1+2*3 b@3+4*1 ", create("b", 1, 0), ErrExists)
	step("a@1+2*3 b@3+4*1 ", create("c", 3, 0), ErrNoRoom)
	step("b@3+4*1 ", s.Remove("a"), nil)
	step("c@1+2*1 b@3+4*1 ", create("c", 0, 0), nil)
	step("c@1+2*1 b@3+6*1 ", s.Grow("b", 6<<20), nil)
	step("c@1+2*1 b@3+6*1 ", s.Grow("c", 3<<20), ErrNoRoom)
	step("c@1+2*1 b@3+6*9 ", s.SetShare("b", 9), nil)
	step("c@1+2*1 b@3+6*9 ", s.Remove("x"), ErrNoSlice)
	step("c@1+2*1 b@3+6*9 ", create("d", 0, 0), ErrNoRoom)
	if err := Format(d, [16]byte{8}); err == nil {
		t.Error("a disk in use was formatted")
	}
}

// TestTableCuts cuts the power at every operation of every change: the table is the old or the new one,
// and never names what it did not before without having wiped it.
func TestTableCuts(t *testing.T) {
	changes := map[string]func(*Set) error{
		"create": func(s *Set) error { _, err := s.Create(Info{Name: "n", Size: 1 << 20}); return err },
		"remove": func(s *Set) error { return s.Remove("a") },
		"grow":   func(s *Set) error { return s.Grow("b", 4<<20) },
		"share":  func(s *Set) error { return s.SetShare("a", 5) },
	}
	for name, change := range changes {
		for seed := range uint64(5) {
			for cut := 1; ; cut++ {
				r := rand.New(rand.NewPCG(seed, uint64(cut)))
				s, d := newSet(t)
				junk := bytes.Repeat([]byte{0xee}, testSize-1<<20)
				if _, err := d.WriteAt(junk, 1<<20); err != nil {
					t.Fatal(err)
				}
				for _, n := range []string{"a", "b"} {
					if _, err := s.Create(Info{Name: n, Size: 2 << 20}); err != nil {
						t.Fatal(err)
					}
				}
				before := names(s.Slices())
				d.CutAfter(cut)
				err := change(s)
				after, err2 := Open(d.Crash(r))
				if err2 != nil {
					t.Fatalf("%s cut at %d: %v", name, cut, err2)
				}
				got := names(after.Slices())
				if err == nil {
					if got != names(s.Slices()) {
						t.Fatalf("%s: %q did not last, %q did", name, names(s.Slices()), got)
					}
					break
				}
				if got != before && name == "create" {
					n, err := after.Disk("n")
					if err != nil {
						t.Fatal(err)
					}
					if _, err := log.Probe(n); !errors.Is(err, log.ErrNotFormatted) {
						t.Fatalf("create cut at %d: slice not wiped: %v", cut, err)
					}
				}
			}
		}
	}
}

// TestFormatCuts cuts the power at every operation of Format: the disk is blank, unfinished or done,
// and can be formatted again until it is done.
func TestFormatCuts(t *testing.T) {
	for seed := range uint64(10) {
		for cut := 1; ; cut++ {
			d := simdisk.New(testSize)
			d.CutAfter(cut)
			done := Format(d, [16]byte{7}) == nil
			d = d.Crash(rand.New(rand.NewPCG(seed, uint64(cut))))
			_, err := Open(d)
			if done && err != nil {
				t.Fatal(err)
			}
			if err != nil {
				p := log.AlignedBuffer(2 * log.BlockSize)
				if _, err := d.ReadAt(p, 0); err != nil {
					t.Fatal(err)
				}
				half, uerr := Unfinished(d)
				blank := bytes.Equal(p, make([]byte, len(p)))
				if !errors.Is(err, ErrNotFormatted) || uerr != nil || !half && !blank {
					t.Fatalf("cut at %d: %v, unfinished %v %v", cut, err, half, uerr)
				}
				if err := Format(d, [16]byte{7}); err != nil {
					t.Fatalf("format again: %v", err)
				}
			}
			if done {
				break
			}
		}
	}
}

func TestRefusesForeign(t *testing.T) {
	d := simdisk.New(testSize)
	if _, err := log.Format(d, log.FormatOptions{Segment: 64 << 10}); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{func() error { _, err := Open(d); return err }(), Format(d, [16]byte{1})} {
		if !errors.Is(err, ErrForeign) {
			t.Errorf("disk with a log and no label: %v", err)
		}
	}
	if _, err := log.Probe(d); err != nil {
		t.Errorf("the foreign log was damaged: %v", err)
	}
}

// TestFailureIsForAll fails one sync. No slice may ever get a success again, not even one that
// had written nothing.
func TestFailureIsForAll(t *testing.T) {
	s, d := newSet(t)
	for _, n := range []string{"a", "b"} {
		if _, err := s.Create(Info{Name: n, Size: 2 << 20}); err != nil {
			t.Fatal(err)
		}
	}
	a, b := must(s.Disk("a"))(t), must(s.Disk("b"))(t)
	p := log.AlignedBuffer(log.BlockSize)
	if _, err := b.WriteAt(p, 0); err != nil {
		t.Fatal(err)
	}
	fail := true
	d.FailSyncs(func() bool { f := fail; fail = false; return f })
	if err := a.Sync(); err == nil {
		t.Fatal("a failed sync was no error")
	}
	if err := b.Sync(); err == nil {
		t.Error("the other slice's sync succeeded, though its write may be lost")
	}
	if _, err := b.WriteAt(p, 0); err == nil {
		t.Error("write after a failed sync succeeded")
	}
	if err := s.SetShare("a", 2); err == nil {
		t.Error("label change after a failed sync succeeded")
	}
}

func must(d *Disk, err error) func(*testing.T) *Disk {
	return func(t *testing.T) *Disk {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
}

// gated is a disk whose syncs wait to be let go.
type gated struct {
	*simdisk.Disk
	started, gate chan struct{}
}

func (g gated) Sync() error {
	g.started <- struct{}{}
	<-g.gate
	return g.Disk.Sync()
}

// TestSyncsAreShared lets many syncs come while one is under way: one more serves them all.
func TestSyncsAreShared(t *testing.T) {
	g := gated{simdisk.New(testSize), make(chan struct{}), make(chan struct{})}
	s := syncs{sync: g.Sync}
	var all sync.WaitGroup
	call := func() {
		if err := s.do(); err != nil {
			t.Error(err)
		}
	}
	all.Go(call)
	<-g.started
	const callers = 20
	for range callers {
		all.Go(call)
	}
	// Let the first one go when all the others have come: each joins the second run.
	for joined := false; !joined; {
		s.mu.Lock()
		joined = s.next != nil
		s.mu.Unlock()
	}
	g.gate <- struct{}{}
	syncs := 1
	finished := make(chan struct{})
	go func() { all.Wait(); close(finished) }()
	for {
		select {
		case <-g.started:
			syncs++
			g.gate <- struct{}{}
			continue
		case <-finished:
		}
		break
	}
	if syncs > callers/2 {
		t.Errorf("%d syncs for %d callers", syncs, callers+1)
	}
}

// TestLogsShareDisk runs two logs on one disk at once, cuts the power, and finds both.
func TestLogsShareDisk(t *testing.T) {
	s, d := newSet(t)
	ids := []string{"a", "b"}
	var all sync.WaitGroup
	for _, name := range ids {
		if _, err := s.Create(Info{Name: name, Size: 4 << 20}); err != nil {
			t.Fatal(err)
		}
		disk := must(s.Disk(name))(t)
		if _, err := log.Format(disk, log.FormatOptions{UUID: [16]byte{name[0]}, Segment: 512 << 10}); err != nil {
			t.Fatal(err)
		}
		l := openLog(t, disk)
		all.Go(func() {
			data := bytes.Repeat([]byte(name), 300<<10)[:256<<10]
			for i := range int64(8) {
				for at := int64(0); at < int64(len(data)); {
					_, n, err := l.Append(log.Record{Kind: log.Write, Off: i<<20 + at, Len: int64(len(data)) - at, Data: data[at:]})
					if err != nil {
						t.Error(err)
						return
					}
					at += n
				}
				if err := l.Flush(context.Background()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	d = d.Crash(rand.New(rand.NewPCG(1, 1)))
	s, err := Open(d)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range ids {
		l := openLog(t, must(s.Disk(name))(t))
		var bytesFound int64
		if _, err := l.Scan(l.Tail(), log.ScanOptions{}, func(g *log.Group) error {
			for _, r := range g.Records {
				if r.Data[0] != name[0] {
					t.Errorf("slice %s holds data of the other", name)
				}
				bytesFound += r.Len
			}
			return nil
		}); err != nil || bytesFound != 8*256<<10 {
			t.Errorf("slice %s: %d bytes, %v", name, bytesFound, err)
		}
	}
}

func openLog(t *testing.T, d log.Disk) *log.Log {
	t.Helper()
	l, err := log.Open(d, log.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Recover(func(io.Reader, log.Cursor) error { return nil }, func(*log.Group) error { return nil }); err != nil {
		t.Fatal(err)
	}
	return l
}

func FuzzLabel(f *testing.F) {
	p := make([]byte, log.BlockSize)
	(&label{generation: 3, slices: []Info{{Name: "a", Off: 1 << 20, Size: 1 << 20, Share: 1}, {Name: "b", Off: 4 << 20, Size: 2 << 20, Share: 7}}}).encode(p)
	f.Add(p[:400])
	f.Fuzz(func(t *testing.T, in []byte) {
		p := make([]byte, log.BlockSize)
		copy(p, in)
		// Without a good checksum nothing else is reached.
		clear(p[12:16])
		binary.LittleEndian.PutUint32(p[12:], log.Checksum(p))
		l, err := parseLabel(p, testSize)
		if err != nil {
			return
		}
		end := int64(0)
		for _, s := range l.slices {
			if s.Off < max(end, Alignment) || s.end() > testSize || s.Share < 1 {
				t.Fatalf("slices overlap or lie outside: %+v", l.slices)
			}
			end = s.end()
		}
		q := make([]byte, log.BlockSize)
		l.encode(q)
		if back, err := parseLabel(q, testSize); err != nil || !reflect.DeepEqual(back, l) {
			t.Fatalf("%+v came back as %+v, %v", l, back, err)
		}
	})
}
