package volume

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/plugins/internal/log"
	"github.com/ratchetos/ratchet/plugins/internal/log/simdisk"
)

// seeds widens the search: go test ./plugins/gateway/volume -run PowerCuts -timeout 1h -args -seeds 1000.
var seeds = flag.Uint64("seeds", 10, "random histories that each crash test runs")

// crashRun writes to a volume until the power goes, several times in a row on one disk, with
// the store coming and going. What was acknowledged must be there at every boot; of the one
// operation under way each block may be old or new. In the end the disk is lost.
func crashRun(seed uint64, m mutant) error {
	r := rand.New(rand.NewPCG(seed, 9))
	store, disk := newStore(), simdisk.New(testDisk)
	model := make([]byte, testSize)
	var under struct{ off, n int64 } // the operation that was not acknowledged
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for life := range 4 {
		store.set(nil)
		if r.IntN(3) == 0 { // the power goes while the volume is being opened, or formatted
			disk.CutAfter(1 + r.IntN(6))
			if v, err := Open(ctx, testOptions(disk, store)); err == nil {
				_ = v.Close()
			}
			disk = disk.Crash(r)
		}
		o := testOptions(disk, store)
		o.mutant = m
		v, err := Open(ctx, o)
		if err != nil {
			return fmt.Errorf("life %d: %w", life, err)
		}
		found := make([]byte, testSize)
		if err := v.ReadAt(ctx, found, 0); err != nil {
			return fmt.Errorf("life %d: %w", life, err)
		}
		for b := int64(0); b < testSize; b += blockSize {
			touched := b+blockSize > under.off && b < under.off+under.n
			if !touched && !bytes.Equal(found[b:b+blockSize], model[b:b+blockSize]) {
				return fmt.Errorf("life %d: block %d lost what was acknowledged", life, b/blockSize)
			}
		}
		copy(model, found)
		disk.CutAfter(50 + r.IntN(900))
		for i := 0; err == nil; i++ {
			off := r.Int64N(testSize)
			n := min(1+r.Int64N(64<<10), testSize-off)
			if r.IntN(4) > 0 {
				off, n = off&^(blockSize-1), (n+blockSize-1)&^(blockSize-1)
			}
			next := make([]byte, n)
			switch r.IntN(16) {
			case 0:
				store.set(outage)
			case 1, 2:
				store.set(nil)
			}
			if v.log.Used() > v.log.Size()*3/4 {
				store.set(nil)
			}
			if r.IntN(6) == 0 {
				err = v.Zero(ctx, off, n)
			} else {
				next = pattern(byte(i), int(n))
				err = v.WriteAt(ctx, next, off)
			}
			if under.off, under.n = off, n; err == nil {
				copy(model[off:], next)
				under.n = 0
			}
		}
		if !errors.Is(err, log.ErrPoisoned) && !errors.Is(err, simdisk.ErrPower) {
			return fmt.Errorf("life %d: ended with %w", life, err)
		}
		_ = v.Close()
		disk = disk.Crash(r)
	}
	store.set(nil)
	v, err := Open(ctx, testOptions(disk, store))
	if err != nil {
		return fmt.Errorf("after the last crash: %w", err)
	}
	defer v.Close()
	want, got := make([]byte, testSize), make([]byte, testSize)
	if err := errors.Join(v.WaitUploaded(ctx), v.ReadAt(ctx, want, 0), v.Close()); err != nil {
		return err
	}
	fresh, err := Open(ctx, testOptions(simdisk.New(testDisk), store))
	if err != nil {
		return err
	}
	defer fresh.Close()
	if err := fresh.ReadAt(ctx, got, 0); err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("the store differs from the volume at byte %d", differs(got, want))
	}
	return nil
}

func TestPowerCuts(t *testing.T) {
	for seed := range *seeds {
		if err := crashRun(seed, 0); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

func TestPowerCutsCatchMutant(t *testing.T) {
	for seed := range uint64(30) {
		if crashRun(seed, mutantReclaimDirty) != nil {
			return
		}
	}
	t.Error("a volume that frees what no head covers was not noticed")
}
