package log

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/ratchetos/ratchet/plugins/internal/log/simdisk"
)

func sampleGroup() []byte {
	b := NewBuilder()
	b.add(Record{Kind: Write, Off: 8 * BlockSize, Len: 2 * BlockSize, Data: bytes.Repeat([]byte{7}, 2*BlockSize)})
	b.add(Record{Kind: Patch, Off: 100, Len: 512, Data: bytes.Repeat([]byte{9}, 512)})
	b.add(Record{Kind: Zero, Off: 0, Len: 1 << 30})
	b.add(Record{Kind: Write, Off: 0, Len: BlockSize, Data: make([]byte, BlockSize)})
	return bytes.Clone(b.seal(&Group{Epoch: 3, Seq: 9, Durable: 8, Prev: 77, Pos: 64 << 10, Time: 5}, 42))
}

func TestGroupRoundTrip(t *testing.T) {
	p := sampleGroup()
	g, err := parseGroup(p, 42)
	if err != nil {
		t.Fatal(err)
	}
	if g.Epoch != 3 || g.Seq != 9 || g.Durable != 8 || g.Prev != 77 || g.Pos != 64<<10 || g.Time != 5 || g.Len != int64(len(p)) {
		t.Errorf("header: %+v", g)
	}
	if len(g.Records) != 4 || g.Records[1].Data[0] != 9 || g.Records[2].Len != 1<<30 {
		t.Errorf("records: %+v", g.Records)
	}
	// A write after a patch starts at a block again, so that it can be read directly.
	if at := g.Records[3].Pos; at != 64<<10+4*BlockSize {
		t.Errorf("write after patch at %d", at)
	}
	for i := 0; i < len(p); i += 17 {
		q := bytes.Clone(p)
		q[i] ^= 0x10
		// Padding is covered by nothing; everything else must be noticed.
		padding := i >= 3*BlockSize+512 && i < 4*BlockSize
		if _, err := parseGroup(q, 42); err == nil != padding {
			t.Errorf("bit flipped at %d: %v", i, err)
		}
	}
	if _, err := parseGroup(p, 43); err == nil {
		t.Error("group of another format of the disk accepted")
	}
}

func TestFormatVersions(t *testing.T) {
	d := formatted(t)
	sb, err := Probe(d)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		edit func(*Superblock)
		want error
	}{
		{"compatible feature", func(s *Superblock) { s.Compat = 1 << 40 }, nil},
		{"incompatible feature", func(s *Superblock) { s.Incompat = 1 }, ErrTooNew},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := *sb
			s.Generation++
			tc.edit(&s)
			if err := s.write(d); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(d, Options{}); !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
		})
	}
	if _, err := Probe(simdisk.New(1 << 20)); !errors.Is(err, ErrNotFormatted) {
		t.Errorf("blank disk: %v", err)
	}
}

// TestFormatCut cuts the power at every write of Format: the disk is never taken for foreign, nor
// for formatted before it is.
func TestFormatCut(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for n := 1; ; n++ {
		d := simdisk.New(6 << 20)
		d.CutAfter(n)
		_, formatErr := Format(d, FormatOptions{UUID: [16]byte{1}, LogSize: MinLogSize, CheckpointSize: 16 << 10})
		d = d.Crash(r)
		if _, err := Open(d, Options{}); err == nil {
			if formatErr == nil {
				return
			}
			continue
		} else if !errors.Is(err, ErrNotFormatted) {
			t.Fatalf("cut at %d: %v", n, err)
		}
		ours, err := Unfinished(d)
		if err != nil {
			t.Fatal(err)
		}
		p := mustRead(t, d)
		if !ours && !bytes.Equal(p, make([]byte, len(p))) {
			t.Fatalf("cut at %d: neither blank nor unfinished", n)
		}
	}
}

// TestFullLog fills the log, sees a writer wait, and lets it go with a checkpoint.
func TestFullLog(t *testing.T) {
	d := formatted(t)
	s, err := openStore(d, mutantNone)
	if err != nil {
		t.Fatal(err)
	}
	s.run()
	defer s.stop()
	n := s.log.Size() / (2 * BlockSize)
	for i := range n {
		if err := s.write(i%blocks, uint64(i+1)); err != nil {
			t.Fatal(err)
		}
	}
	full, cancel := context.WithCancel(context.Background())
	cancel()
	r := Record{Kind: Write, Len: BlockSize, Data: payload(0, 1)}
	if _, err := s.committer.Submit(full, r); !errors.Is(err, context.Canceled) {
		t.Fatalf("submit to a full log: %v", err)
	}
	waiting := make(chan error)
	go func() { waiting <- s.write(3, 1e6) }()
	if err := s.checkpoint(); err != nil {
		t.Fatal(err)
	}
	if err := <-waiting; err != nil {
		t.Fatal(err)
	}
	if s.log.Holds(0) {
		t.Error("position before the tail still claimed to hold its data")
	}
}

func FuzzGroup(f *testing.F) {
	f.Add(sampleGroup())
	f.Fuzz(func(t *testing.T, p []byte) {
		g, err := parseGroup(p, 42)
		if err != nil {
			return
		}
		for _, r := range g.Records {
			if r.Kind != Zero && int64(len(r.Data)) != r.Len {
				t.Fatalf("record %+v has %d bytes", r, len(r.Data))
			}
		}
	})
}

func FuzzSuperblock(f *testing.F) {
	p := AlignedBuffer(BlockSize)
	(&Superblock{
		Label: "v", Checkpoint: [2]Area{{headArea, BlockSize}, {headArea + BlockSize, BlockSize}},
		Log: Area{headArea + 2*BlockSize, MinLogSize}, Data: Area{headArea + 2*BlockSize + MinLogSize, 0},
	}).encode(p)
	f.Add(p)
	f.Fuzz(func(t *testing.T, p []byte) {
		const size = 8 << 20
		s, err := parseSuperblock(p, size)
		if err == nil && (s.Data.end() > size || s.Log.Len < MinLogSize) {
			t.Fatalf("areas outside the disk: %+v", s)
		}
	})
}

func FuzzCheckpoint(f *testing.F) {
	p := AlignedBuffer(2 * BlockSize)
	(&checkpoint{generation: 1, tail: Cursor{Seq: 1}, state: []byte("state")}).encode(p, 42)
	f.Add(p)
	f.Fuzz(func(t *testing.T, p []byte) {
		_, n, _, err := parseCheckpoint(p, 42, 64<<10)
		if err == nil && n > 60<<10 {
			t.Fatalf("state of %d bytes in a smaller area", n)
		}
	})
}
