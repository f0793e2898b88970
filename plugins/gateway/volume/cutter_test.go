package volume

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/ratchetos/ratchet/plugins/internal/log"
	"github.com/ratchetos/ratchet/plugins/internal/log/simdisk"
)

// TestNothingDirtyIsPassedOver asks again and again how far the log is clean while a client writes durably. A write that is
// passed over would never be uploaded, and be lost when its block is evicted.
func TestNothingDirtyIsPassedOver(t *testing.T) {
	o := testOptions(simdisk.New(testDisk), newStore())
	o.Hold = true // the upload itself passes nothing over
	v := mustOpen(t, o)
	const writes = 150 // as many as the log holds
	var client sync.WaitGroup
	var looks atomic.Int64
	done := make(chan struct{})
	client.Go(func() {
		defer close(done)
		for i := range writes {
			if err := v.WriteAt(t.Context(), pattern(byte(i), blockSize), int64(i%16)*blockSize, true); err != nil {
				t.Error(err)
				return
			}
			// Neither outruns the other.
			for seen := looks.Load(); i%10 == 9 && looks.Load() == seen && t.Context().Err() == nil; {
				runtime.Gosched()
			}
		}
	})
	at, passed := v.log.Durable(), 0
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		end, clean := v.cleanUpTo(at.Pos)
		looks.Add(1)
		if end.Pos <= at.Pos {
			runtime.Gosched()
			continue
		}
		_, err := v.log.Scan(at, log.ScanOptions{Headers: true, End: end.Pos}, func(g *log.Group) error {
			for _, r := range g.Records {
				if clean && r.Kind != log.Fill {
					t.Errorf("record at %d is passed over: the log was said to be clean from %d to %d", r.Pos, at.Pos, end.Pos)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		at = end
		passed++
	}
	client.Wait()
	if passed < 10 {
		t.Errorf("looked only %d times", passed)
	}
}
