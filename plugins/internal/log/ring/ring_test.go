package ring

import (
	"bytes"
	"io"
	"os"
	"testing"

	"github.com/ratchetos/ratchet/plugins/internal/log"
	"github.com/ratchetos/ratchet/plugins/internal/log/simdisk"
)

// TestSurvives appends to a log, forgets the process's half of everything, and finds the records in
// the ring.
func TestSurvives(t *testing.T) {
	const segment = 64 << 10
	disk := simdisk.New(2 << 20)
	if _, err := log.Format(disk, log.FormatOptions{UUID: [16]byte{1}, Segment: segment}); err != nil {
		t.Fatal(err)
	}
	f, err := Create("test", 4*segment)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data := bytes.Repeat([]byte("x"), log.BlockSize)
	for life := range 3 {
		r, err := Map(f)
		if err != nil {
			t.Fatal(err)
		}
		l, err := log.Open(disk, log.Options{Window: r.Memory()})
		if err != nil {
			t.Fatal(err)
		}
		found := 0
		if err := l.Recover(func(io.Reader, log.Cursor) error { return nil }, func(g *log.Group) error {
			found += len(g.Records)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if found != life {
			t.Errorf("life %d found %d records", life, found)
		}
		if _, _, err := l.Append(log.Record{Kind: log.Write, Len: log.BlockSize, Data: data}); err != nil {
			t.Fatal(err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		disk = disk.Kill()
	}
}

func TestSealed(t *testing.T) {
	f, err := Create("test", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.Truncate(log.BlockSize) == nil || f.Truncate(2<<20) == nil {
		t.Error("the ring's size could be changed")
	}
}

func TestMapRefuses(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, n := range []int64{0, log.BlockSize, 3*log.BlockSize + 1} {
		if err := f.Truncate(n); err != nil {
			t.Fatal(err)
		}
		if r, err := Map(f); err == nil {
			t.Errorf("mapped %d bytes: %v", n, r.Close())
		}
	}
}
