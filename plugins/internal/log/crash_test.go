package log

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"

	"github.com/ratchetos/ratchet/plugins/internal/log/simdisk"
)

// store is the smallest owner of a log: numbered blocks with a version each. Data stays in
// the log; the checkpoint lists versions of blocks whose records it lets go.
type store struct {
	disk      *simdisk.Disk
	log       *Log
	committer *Committer
	stop      context.CancelFunc
	stopped   chan error

	versions map[int64]uint64
	at       map[int64]int64 // block → position of its data
	epochs   map[uint64]bool // seen in groups
}

const blocks = 64

func payload(block int64, version uint64) []byte {
	p := bytes.Repeat([]byte{byte(version), byte(block)}, BlockSize/2)
	binary.LittleEndian.PutUint64(p, version)
	binary.LittleEndian.PutUint64(p[8:], uint64(block))
	return p
}

func formatted(t *testing.T) *simdisk.Disk {
	t.Helper()
	d := simdisk.New(6 << 20)
	if _, err := Format(d, FormatOptions{UUID: [16]byte{1}, LogSize: MinLogSize, CheckpointSize: 16 << 10}); err != nil {
		t.Fatal(err)
	}
	return d
}

func openStore(d *simdisk.Disk, m mutant) (*store, error) {
	l, err := Open(d, Options{mutant: m})
	if err != nil {
		return nil, err
	}
	s := &store{disk: d, log: l, versions: map[int64]uint64{}, at: map[int64]int64{}, epochs: map[uint64]bool{}, stopped: make(chan error, 1)}
	for st := l.State(); len(st) >= 16; st = st[16:] {
		s.versions[int64(binary.LittleEndian.Uint64(st))] = binary.LittleEndian.Uint64(st[8:])
	}
	if err := l.Replay(s.apply); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *store) apply(g *Group) error {
	s.epochs[g.Epoch] = true
	for _, r := range g.Records {
		block := r.Off / BlockSize
		v := binary.LittleEndian.Uint64(r.Data)
		if !bytes.Equal(r.Data, payload(block, v)) {
			return fmt.Errorf("block %d holds foreign data", block)
		}
		s.versions[block], s.at[block] = v, r.Pos
	}
	return nil
}

func (s *store) run() {
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = cancel
	s.committer = NewCommitter(s.log, func(g *Group) { _ = s.apply(g) })
	go func() { s.stopped <- s.committer.Run(ctx) }()
}

func (s *store) write(block int64, v uint64) error {
	b, err := s.committer.Submit(context.Background(), Record{Kind: Write, Off: block * BlockSize, Len: BlockSize, Data: payload(block, v)})
	if err != nil {
		return err
	}
	return b.Wait(context.Background())
}

func (s *store) checkpoint() error {
	var st []byte
	for block, v := range s.versions {
		st = binary.LittleEndian.AppendUint64(st, uint64(block))
		st = binary.LittleEndian.AppendUint64(st, v)
	}
	// Nothing is in flight here, so the whole log can go.
	return s.log.Checkpoint(s.log.head, st)
}

// crashOnce writes with random checkpoints until the power goes, at most n times in a row on
// one disk, and compares what each boot finds with what had been acknowledged.
func crashOnce(t *testing.T, seed uint64, m mutant) error {
	r := rand.New(rand.NewPCG(seed, 1))
	d := formatted(t)
	acked := map[int64]uint64{}
	next := uint64(1)
	for life := range 4 {
		s, err := openStore(d, m)
		if err != nil {
			return fmt.Errorf("life %d: %w", life, err)
		}
		for block, v := range acked {
			if s.versions[block] < v {
				return fmt.Errorf("life %d: block %d is version %d, acknowledged was %d", life, block, s.versions[block], v)
			}
		}
		if s.epochs[s.log.Epoch()] {
			return fmt.Errorf("life %d: epoch %d has groups from before this opening", life, s.log.Epoch())
		}
		acked = maps.Clone(s.versions) // an unacknowledged write that survived counts from now on
		s.run()
		d.CutAfter(1 + r.IntN(1200))
		if r.IntN(4) == 0 {
			d.FailSyncs(func() bool { return r.IntN(40) == 0 })
		}
		for err == nil {
			if full := s.log.Used() > s.log.Size()-2*BlockSize; full || r.IntN(2000) == 0 {
				// The moments after a checkpoint are the ones in which freed space is at stake.
				if err = s.checkpoint(); err != nil {
					break
				}
				if r.IntN(2) == 0 {
					d.CutAfter(1 + r.IntN(4))
				}
			}
			block := r.Int64N(blocks)
			if err = s.write(block, next); err == nil {
				acked[block] = next
			}
			next++
		}
		s.stop()
		<-s.stopped
		if !errors.Is(err, ErrPoisoned) {
			return fmt.Errorf("life %d: ended with %w", life, err)
		}
		d = d.Crash(r)
	}
	return nil
}

// seeds widens the search: go test ./plugins/internal/log -run Crash -timeout 1h -args -seeds 5000.
var seeds = flag.Uint64("seeds", 60, "random histories that TestCrash runs")

func TestCrash(t *testing.T) {
	for seed := range *seeds {
		if err := crashOnce(t, seed, mutantNone); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

// A crash test that lets a broken log pass proves nothing.
func TestCrashCatchesMutants(t *testing.T) {
	for _, m := range []mutant{mutantReuseEarly, mutantForgiveSync, mutantKeepEpoch} {
		caught := false
		for seed := uint64(0); seed < 60 && !caught; seed++ {
			caught = crashOnce(t, seed, m) != nil
		}
		if !caught {
			t.Errorf("mutant %d survived", m)
		}
	}
}

// TestCorruption damages one durable group and expects the log to refuse, not to cut itself short.
func TestCorruption(t *testing.T) {
	for _, tc := range []struct {
		name  string
		where func(Area) int64
		want  error
	}{
		{"header of a middle group", func(a Area) int64 { return a.Off + 4*BlockSize + 20 }, ErrMediaCorrupt},
		{"payload of a middle group", func(a Area) int64 { return a.Off + 5*BlockSize + 99 }, ErrMediaCorrupt},
		{"first group", func(a Area) int64 { return a.Off }, ErrMediaCorrupt},
		// Nothing says that the last group was ever whole: this is what a torn write looks like.
		{"last group", func(a Area) int64 { return a.Off + 19*BlockSize }, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := formatted(t)
			s, err := openStore(d, mutantNone)
			if err != nil {
				t.Fatal(err)
			}
			s.run()
			for i := range int64(10) {
				if err := s.write(i, 1); err != nil {
					t.Fatal(err)
				}
			}
			s.stop()
			<-s.stopped
			d.Corrupt(tc.where(s.log.sb.Log))
			before := bytes.Clone(mustRead(t, d))
			_, err = openStore(d, mutantNone)
			if !errors.Is(err, tc.want) {
				t.Fatalf("got %v, want %v", err, tc.want)
			}
			if tc.want == nil {
				return
			}
			if !bytes.Equal(before, mustRead(t, d)) {
				t.Error("the refused disk was written to")
			}
			if _, err := openStore(d, mutantTruncate); err != nil {
				t.Errorf("mutant that truncates was not seen: %v", err)
			}
		})
	}
}

func mustRead(t *testing.T, d *simdisk.Disk) []byte {
	t.Helper()
	p := AlignedBuffer(int(d.Size()))
	if _, err := d.ReadAt(p, 0); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestFailedSyncPoisons(t *testing.T) {
	d := formatted(t)
	s, err := openStore(d, mutantNone)
	if err != nil {
		t.Fatal(err)
	}
	s.run()
	defer s.stop()
	fail := true
	d.FailSyncs(func() bool { f := fail; fail = false; return f })
	if err := s.write(1, 1); !errors.Is(err, ErrPoisoned) {
		t.Fatalf("write with failing sync: %v", err)
	}
	if err := s.write(1, 2); !errors.Is(err, ErrPoisoned) {
		t.Errorf("write after it: %v, want ErrPoisoned though the disk works again", err)
	}
	if err := s.committer.Flush(context.Background()); !errors.Is(err, ErrPoisoned) {
		t.Errorf("flush after it: %v", err)
	}
	if err := s.checkpoint(); !errors.Is(err, ErrPoisoned) {
		t.Errorf("checkpoint after it: %v", err)
	}
}
