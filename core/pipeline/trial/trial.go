package trial

import (
	"bytes"
	"compress/flate"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/core/pipeline"
	"github.com/ratchetos/ratchet/core/pipeline/sim"
)

// Options of a run.
type Options struct {
	// Dir is for the file that is read and written.
	Dir string
	// Length is how long is measured, after a fifth of it to warm up; 0 means two seconds.
	Length time.Duration
	// Workers as in pipeline.Limits.
	Workers int
}

// Outcome of one pipeline, in items a second.
type Outcome struct {
	Name            string
	Real, Simulated float64
}

const (
	blockSize = 64 << 10
	blocks    = 256 // of the file
	hashes    = 6   // rounds of the pipeline that only hashes
	waiting   = 4   // calls at once of stages that wait for the disk
	queue     = 32  // before each stage: a disk that stalls for a moment shall not stop the workers
)

// Run does the work and simulates it.
func Run(ctx context.Context, o Options) ([]Outcome, error) {
	if o.Length <= 0 {
		o.Length = 2 * time.Second
	}
	f, err := fill(o.Dir)
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	defer f.Close()

	s := pipeline.NewScheduler(pipeline.Limits{Workers: o.Workers})
	archive, scan := s.New("archive", pipeline.Options{}), s.New("scan", pipeline.Options{})
	buildArchive(archive, f)
	buildScan(scan, f)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 2)
	for _, p := range []*pipeline.Pipeline{archive, scan} {
		go func() { ended <- p.Run(ctx) }()
	}
	before, after, err := measure(ctx, s, o.Length)
	stop()
	for range 2 {
		if e := <-ended; !errors.Is(e, context.Canceled) {
			err = errors.Join(err, e)
		}
	}
	if err != nil {
		return nil, err
	}
	return compare(before, after, o.Length), nil
}

// fill makes the file: half of each block is noise, so that compressing it is work and pays.
func fill(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, "trial-*")
	if err != nil {
		return nil, err
	}
	r := rand.NewChaCha8([32]byte{})
	p := make([]byte, blockSize)
	for range 2 * blocks { // the half that is written to as well: a block's first write costs more than the others
		_, _ = r.Read(p[:blockSize/2]) // never fails
		if _, err := f.Write(p); err != nil {
			f.Close()
			return nil, err
		}
	}
	return f, nil
}

type block []byte

func (b block) Bytes() int64 { return int64(len(b)) }

func read(f *os.File) func(context.Context) (block, error) {
	var next atomic.Int64
	return func(context.Context) (block, error) {
		p := make(block, blockSize)
		_, err := f.ReadAt(p, next.Add(1)%blocks*blockSize)
		return p, err
	}
}

func buildArchive(p *pipeline.Pipeline, f *os.File) {
	in := pipeline.From(p, pipeline.Stage{Name: "read", Waits: true, Limit: waiting, Queue: queue}, read(f))
	packed := pipeline.Map(in, pipeline.Stage{Name: "compress", Queue: queue}, func(_ context.Context, b block) (block, error) {
		var out bytes.Buffer
		w, err := flate.NewWriter(&out, flate.BestSpeed)
		if err != nil {
			return nil, err
		}
		if _, err := w.Write(b); err != nil {
			return nil, err
		}
		err = w.Close()
		return out.Bytes(), err
	})
	summed := pipeline.Map(packed, pipeline.Stage{Name: "hash", Queue: queue}, func(_ context.Context, b block) (block, error) {
		sum := sha256.Sum256(b)
		return append(b, sum[:]...), nil
	})
	var at atomic.Int64
	pipeline.Each(summed, pipeline.Stage{Name: "write", Waits: true, Limit: waiting, Queue: queue}, func(_ context.Context, b block) error {
		if _, err := f.WriteAt(b, (blocks+at.Add(1)%blocks)*blockSize); err != nil {
			return err
		}
		return unix.Fdatasync(int(f.Fd()))
	})
}

func buildScan(p *pipeline.Pipeline, f *os.File) {
	in := pipeline.From(p, pipeline.Stage{Name: "read", Waits: true, Limit: waiting, Queue: queue}, read(f))
	pipeline.Each(in, pipeline.Stage{Name: "hash", Queue: queue}, func(_ context.Context, b block) error {
		h := sha256.New()
		for range hashes {
			_, _ = h.Write(b) // never fails
		}
		_, err := fmt.Fprint(io.Discard, h.Sum(nil)[0])
		return err
	})
}

// measure returns what had been done at the beginning and at the end of a while.
func measure(ctx context.Context, s *pipeline.Scheduler, length time.Duration) (before, after pipeline.Snapshot, err error) {
	for _, step := range []struct {
		wait time.Duration
		into *pipeline.Snapshot
	}{{length / 5, &before}, {length, &after}} {
		select {
		case <-time.After(step.wait):
			*step.into = s.Snapshot()
		case <-ctx.Done():
			return before, after, ctx.Err()
		}
		if len(step.into.Pipelines) != 2 {
			return before, after, errors.New("a pipeline ended early")
		}
	}
	return before, after, nil
}

// compare turns measurements into a workload, and has it simulated. What came through is counted at the stage that takes the
// most of a worker's time: the queues after it fill and empty.
func compare(before, after pipeline.Snapshot, length time.Duration) []Outcome {
	const times = 10 // as long as the measurement, so that the beginning with empty queues does not count
	w := sim.Workload{Workers: after.Workers, Queue: queue, Length: times * length, Seed: 1}
	var out []Outcome
	for i, p := range after.Pipelines {
		line := sim.Pipeline{Weight: p.Weight}
		done, most := 0.0, time.Duration(0)
		for k, st := range p.Stages {
			was := before.Pipelines[i].Stages[k]
			items, busy := float64(st.Items-was.Items), st.Busy-was.Busy
			line.Stages = append(line.Stages, sim.Stage{Cost: []float64{busy.Seconds() / max(1, items)}, Waits: st.Waits, Limit: st.Limit})
			if !st.Waits && busy > most {
				done, most = items, busy
			}
		}
		w.Pipelines = append(w.Pipelines, line)
		out = append(out, Outcome{Name: p.Name, Real: done / length.Seconds()})
	}
	simulated := sim.Run(w, nil)
	for i := range out {
		out[i].Simulated = simulated.Done[i] / (times * length.Seconds())
	}
	return out
}
