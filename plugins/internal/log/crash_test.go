package log

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/ratchetos/ratchet/plugins/internal/log/simdisk"
)

// seeds widens the search: go test ./plugins/internal/log -run Crash -timeout 1h -args -seeds 50000.
var seeds = flag.Uint64("seeds", 660, "random histories that each crash test runs")

// crashCount counts what the histories went through.
type crashCount struct{ kills, cuts, recoveries int }

// history writes until the power goes or the process is killed, several times in a row on one
// disk. Every opening must find a prefix of what was written that is not shorter than what was
// durable; after a kill with a ring, all of it.
func history(seed uint64, m mutant, n *crashCount) error {
	r := rand.New(rand.NewPCG(seed, 1))
	d, err := formatted()
	if err != nil {
		return err
	}
	p := &past{remote: map[int64]uint64{}}
	p.newWindow()
	var least uint64
	for life := range 24 {
		if r.IntN(4) == 0 {
			d.CutAfter(1 + r.IntN(4)) // during recovery
		}
		o, err := openOwner(r, d, p, least, m)
		if err != nil && !errors.Is(err, simdisk.ErrPower) {
			return fmt.Errorf("life %d: %w", life, err)
		}
		if err == nil {
			n.recoveries++
			err = o.live()
			if err != nil && !errors.Is(err, simdisk.ErrPower) && !errors.Is(err, simdisk.ErrIO) {
				return fmt.Errorf("life %d: %w", life, err)
			}
			least = p.flushed
		}
		// A disk that lost writes and said so once is not one to go on with.
		if errors.Is(err, simdisk.ErrIO) || r.IntN(3) == 0 {
			n.cuts++
			d, least = d.Crash(r), p.flushed
			p.newWindow()
			continue
		}
		n.kills++
		d = d.Kill()
		if r.IntN(8) == 0 {
			p.window, least = nil, p.flushed // the next process has no ring: what is not durable is lost
			continue
		}
		if p.window == nil {
			p.newWindow()
			continue
		}
		if o != nil {
			least = uint64(len(p.writes))
			o.scribble()
		}
	}
	return nil
}

// live does random things until something fails.
func (o *owner) live() error {
	o.disk.CutAfter(1 + o.r.IntN(30))
	if o.r.IntN(6) == 0 {
		o.disk.FailSyncs(func() bool { return o.r.IntN(12) == 0 })
	}
	if o.r.IntN(3) == 0 { // somebody else appends in the middle of this one's disk writes
		o.disk.FailWrites(func() bool {
			if o.r.IntN(2) == 0 {
				_ = o.one() // it matters only if there was room
			}
			return false
		})
	}
	for range o.r.IntN(40) {
		var err error
		switch o.r.IntN(12) {
		case 0, 1:
			err = o.flush()
		case 2:
			if o.r.IntN(3) == 0 {
				o.log.FlushAhead()
				err = o.log.Err()
			} else {
				err = o.log.writeOut(o.r.IntN(2) == 0)
			}
		case 3:
			if o.r.IntN(4) == 0 {
				err = o.checkpoint()
			}
		case 4:
			if err = o.clean(); err == nil && o.r.IntN(2) == 0 {
				// The moments after space was freed are the ones at stake.
				o.disk.CutAfter(1 + o.r.IntN(6))
			}
		case 5:
			if o.r.IntN(4) == 0 {
				err = o.brim()
			}
		default:
			b := o.r.Int64N(testBlocks)
			err = o.write(b, 1+o.r.IntN(min(maxRun, int(testBlocks-b))))
		}
		if err == nil && o.r.IntN(40) == 0 {
			err = o.check()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// scribble leaves what a process leaves that is killed while it appends.
func (o *owner) scribble() {
	g := &o.log.open
	if !g.active {
		return
	}
	for i := g.headEnd; i < min(g.headEnd+recordHeader, BlockSize); i++ {
		g.page[i] = byte(o.r.Uint32())
	}
	end := g.pos + roundUp(g.payloads) + BlockSize
	if g.pos%testSegment+end-g.pos <= testSegment && end <= o.log.written.Pos+o.log.win.size() {
		p := o.log.win.at(g.pos+g.payloads, BlockSize)
		for i := range p {
			p[i] = byte(i)
		}
	}
}

func TestCrashes(t *testing.T) {
	n := *seeds
	if testing.Short() { // the race detector makes a history twenty times as long, and a history has one goroutine
		n /= 8
	}
	for part := range uint64(2) {
		t.Run(fmt.Sprint("part ", part), func(t *testing.T) {
			t.Parallel()
			var went crashCount
			for seed := part; seed < n; seed += 2 {
				if err := history(seed, mutantNone, &went); err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
			}
			t.Logf("%d process kills, %d power cuts, %d recoveries", went.kills, went.cuts, went.recoveries)
		})
	}
}

// A crash test that lets a broken log pass proves nothing.
func TestCrashesCatchMutants(t *testing.T) {
	for m, name := range map[mutant]string{
		mutantReuseEarly: "reuse before the tail is durable", mutantForgiveSync: "forgiven sync failure",
		mutantKeepEpoch: "epoch kept", mutantNoSync: "fdatasync removed", mutantKeepRing: "ring not drained",
		mutantCheckpointEarly: "checkpoint before data", mutantTrustTorn: "payload not checked",
		mutantMarkOverGroup: "mark in the place of a group",
	} {
		caught := false
		var n crashCount
		for seed := uint64(0); seed < 400 && !caught; seed++ {
			err := history(seed, m, &n)
			if caught = err != nil; caught {
				t.Logf("%s: seed %d: %v", name, seed, err)
			}
		}
		if !caught {
			t.Errorf("%s: survived", name)
		}
	}
}
