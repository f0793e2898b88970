package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// memory is a Medium that fits into a slice.
type memory []byte

func (m memory) ReadAt(b []byte, at int64) (int, error)  { return copy(b, m[at:]), nil }
func (m memory) WriteAt(b []byte, at int64) (int, error) { return copy(m[at:], b), nil }
func (m memory) Sync() error                             { return nil }

func format(t *testing.T, config string) (memory, *Store) {
	t.Helper()
	m := make(memory, Size)
	for i := range m {
		m[i] = 0xEE // what an earlier owner left
	}
	if err := Format(m, []byte(config)); err != nil {
		t.Fatal(err)
	}
	return m, Open(m)
}

func load(t *testing.T, s *Store) *Contents {
	t.Helper()
	c, err := s.Load()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestFormat(t *testing.T) {
	m, s := format(t, "host: a\n")
	again, _ := format(t, "host: a\n")
	if !bytes.Equal(m, again) {
		t.Error("formatting twice gives different bytes")
	}
	c := load(t, s)
	if !c.Factory() || c.Configs[0].Digest != Sum([]byte("host: a\n")) || !errors.Is(c.Configs[1].Err, ErrEmpty) || c.Ring.Damaged != 0 {
		t.Errorf("factory contents: %+v", c)
	}
	if yaml, err := s.ReadConfig(0); err != nil || string(yaml) != "host: a\n" {
		t.Errorf("config: %q %v", yaml, err)
	}
	if err := Format(make(memory, Size), make([]byte, MaxConfig+1)); err == nil {
		t.Error("a configuration that does not fit was formatted")
	}
}

func TestLedgerSlots(t *testing.T) {
	_, s := format(t, "")
	for seq := uint64(1); seq <= 5; seq++ {
		l := sample()
		l.Sequence = seq
		d, err := s.WriteLedger(l)
		if err != nil {
			t.Fatal(err)
		}
		c := load(t, s)
		if got := c.Slots[seq%2]; got.Digest != d || got.Ledger.Sequence != seq {
			t.Fatalf("sequence %d: %+v", seq, got)
		}
		if old := c.Slots[1-seq%2]; seq > 1 && old.Ledger.Sequence != seq-1 {
			t.Fatalf("sequence %d lost its predecessor: %+v", seq, old)
		}
	}
}

func TestRingWraps(t *testing.T) {
	_, s := format(t, "")
	for n := uint64(1); n <= RingSize+10; n++ {
		if _, err := s.WriteIntent(sampleIntent(n)); err != nil {
			t.Fatal(err)
		}
	}
	r := load(t, s).Ring
	if len(r.Intents) != RingSize || r.Damaged != 0 {
		t.Fatalf("%d intents, %d damaged", len(r.Intents), r.Damaged)
	}
	for n := uint64(11); n <= RingSize+10; n++ {
		if r.Intents[n] != sampleIntent(n) {
			t.Fatalf("intent %d: %+v", n, r.Intents[n])
		}
	}
}

// TestDropIntents: what is above the number is gone, what is below it and what cannot be read stays.
func TestDropIntents(t *testing.T) {
	m, s := format(t, "")
	for n := uint64(1000); n <= 1030; n++ { // around the end of the ring
		if _, err := s.WriteIntent(sampleIntent(n)); err != nil {
			t.Fatal(err)
		}
	}
	m[ringOffset+(1029%RingSize)*entrySize+headerSize] ^= 1
	if err := s.DropIntents(1010); err != nil {
		t.Fatal(err)
	}
	r := load(t, s).Ring
	if len(r.Intents) != 11 || r.Intents[1010] != sampleIntent(1010) || r.Damaged != 1 {
		t.Errorf("%d intents, %d damaged", len(r.Intents), r.Damaged)
	}
	if err := Open(broken{m, nil, true}).DropIntents(1009); err == nil {
		t.Error("a medium that keeps an intent was believed")
	}
}

func TestMovedIntentIsDamage(t *testing.T) {
	m, s := format(t, "")
	if _, err := s.WriteIntent(sampleIntent(1)); err != nil {
		t.Fatal(err)
	}
	copy(m[ringOffset+2*entrySize:], m[ringOffset+entrySize:ringOffset+2*entrySize])
	if r := load(t, s).Ring; r.Damaged != 1 || len(r.Intents) != 1 {
		t.Errorf("an intent copied to another entry: %d damaged, %d intents", r.Damaged, len(r.Intents))
	}
}

func TestDamage(t *testing.T) {
	m, s := format(t, "a")
	if _, err := s.WriteLedger(sample()); err != nil {
		t.Fatal(err)
	}
	m[slotAt(1)+100] ^= 4
	m[configAt(0)+headerSize] ^= 1
	m[superOffset] ^= 1
	c := load(t, s) // the copy of the superblock serves
	if !errors.Is(c.Slots[1].Err, ErrCorrupt) || !errors.Is(c.Slots[0].Err, ErrEmpty) || !errors.Is(c.Configs[0].Err, ErrCorrupt) {
		t.Errorf("contents: %+v", c)
	}
	if c.Factory() {
		t.Error("a corrupt slot passes for a factory LEDGER")
	}
	m[superCopy] ^= 1
	if _, err := s.Load(); !errors.Is(err, ErrCorrupt) {
		t.Errorf("both superblocks damaged: %v", err)
	}
	if _, err := Open(make(memory, Size)).Load(); !errors.Is(err, ErrEmpty) {
		t.Errorf("zeros: %v", err)
	}
}

// broken fails or lies after a number of writes.
type broken struct {
	memory
	syncErr error
	lie     bool
}

func (b broken) Sync() error { return b.syncErr }
func (b broken) ReadAt(p []byte, at int64) (int, error) {
	n, err := b.memory.ReadAt(p, at)
	if b.lie && n > headerSize {
		p[n-1] ^= 1
	}
	return n, err
}

func TestBrokenMedium(t *testing.T) {
	m, _ := format(t, "")
	failed := errors.New("input/output error")
	if _, err := Open(broken{m, failed, false}).WriteIntent(sampleIntent(1)); !errors.Is(err, failed) {
		t.Errorf("sync fails: %v", err)
	}
	if _, err := Open(broken{m, nil, true}).WriteIntent(sampleIntent(1)); err == nil {
		t.Error("a medium that reads back other bytes was believed")
	}
	if _, err := Open(cut{m[:ringOffset]}).Load(); !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		t.Errorf("short partition: %v", err)
	}
}

type cut struct{ memory }

func (c cut) ReadAt(b []byte, at int64) (int, error) {
	if at >= int64(len(c.memory)) {
		return 0, io.EOF
	}
	return c.memory.ReadAt(b, at)
}

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(Format(f, []byte("x: 1\n")), f.Close()); err != nil {
		t.Fatal(err)
	}
	m, err := OpenFile(path, false)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	s := Open(m)
	if _, err := s.WriteLedger(sample()); err != nil {
		t.Fatal(err)
	}
	if c := load(t, s); c.Slots[1].Err != nil {
		t.Errorf("ledger: %v", c.Slots[1].Err)
	}
}

func BenchmarkLoad(b *testing.B) {
	m := make(memory, Size)
	if err := Format(m, []byte("x: 1\n")); err != nil {
		b.Fatal(err)
	}
	s := Open(m)
	for n := uint64(1); n <= 16; n++ {
		if _, err := s.WriteIntent(sampleIntent(n)); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		if _, err := s.Load(); err != nil {
			b.Fatal(fmt.Errorf("load: %w", err))
		}
	}
}

func TestRequest(t *testing.T) {
	m, s := format(t, "host: a\n")
	if _, err := s.ReadRequest(); !errors.Is(err, ErrEmpty) {
		t.Errorf("request of a factory disk: %v", err)
	}
	before := load(t, s)
	for _, text := range []string{"first", "the second is longer", ""} {
		if err := errors.Join(s.WriteRequest(text), s.WriteOutcome(text+" done")); err != nil {
			t.Fatal(err)
		}
		request, err := s.ReadRequest()
		outcome, err2 := s.ReadOutcome()
		if request != text || outcome != text+" done" || err != nil || err2 != nil {
			t.Errorf("wrote %q, read %q (%v) and %q (%v)", text, request, err, outcome, err2)
		}
	}
	if after := load(t, s); after.Configs != before.Configs || after.Ring.Damaged != 0 || !after.Factory() {
		t.Error("a request changes what is judged")
	}
	m[requestOffset+3] ^= 1
	if _, err := s.ReadRequest(); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a damaged request: %v", err)
	}
	if err := s.ClearRequest(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.ReadRequest(); !errors.Is(err, ErrEmpty) {
		t.Errorf("a request that was taken away: %v", err)
	}
	if err := s.WriteRequest(string(make([]byte, MaxRequest+1))); err == nil {
		t.Error("a request that does not fit was written")
	}
}
