package log_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/plugins/internal/log"
	"github.com/ratchetos/ratchet/plugins/internal/log/filedisk"
)

// benchLog is a log on a pre-written file, whose tail follows the head as fast as it may.
func benchLog(tb testing.TB, size int64) *log.Log {
	tb.Helper()
	return benchOpen(tb, benchFile(tb, size))
}

// benchFile is a pre-written file below TMPDIR, which must be on a disk for the figures to mean
// anything: TMPDIR=/var/tmp go test -run XXX -bench .
func benchFile(tb testing.TB, size int64) string {
	tb.Helper()
	f, err := os.Create(filepath.Join(tb.TempDir(), "disk"))
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	piece := make([]byte, 4<<20)
	for range size / int64(len(piece)) {
		if _, err := f.Write(piece); err != nil {
			tb.Fatal(err)
		}
	}
	if err := f.Sync(); err != nil {
		tb.Fatal(err)
	}
	return f.Name()
}

func benchDisk(tb testing.TB, path string) *filedisk.Disk {
	tb.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = f.Close() })
	d, err := filedisk.New(f, filedisk.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = d.Close() })
	return d
}

// benchOpen formats the file and runs a log on it.
func benchOpen(tb testing.TB, path string) *log.Log {
	tb.Helper()
	d := benchDisk(tb, path)
	if _, err := log.Format(d, log.FormatOptions{UUID: [16]byte{1}}); err != nil {
		tb.Fatal(err)
	}
	l, err := log.Open(d, log.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	if err := l.Recover(func(io.Reader, log.Cursor) error { return nil }, func(*log.Group) error { return nil }); err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	tb.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			tb.Error(err)
		}
	})
	return l
}

// cpuTime reports what the process used for each operation, which a busy machine changes less than
// the time it takes.
func cpuTime(b *testing.B) (stop func()) {
	used := func() time.Duration {
		var u unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	before := used()
	return func() { b.ReportMetric(float64((used()-before).Nanoseconds())/1e3/float64(b.N), "cpu-us/op") }
}

// benchWriter is the owner: one lock around Append.
type benchWriter struct {
	mu sync.Mutex
	l  *log.Log
}

func (w *benchWriter) write(ctx context.Context, r log.Record) error {
	for r.Len > 0 {
		w.mu.Lock()
		_, n, err := w.l.Append(r)
		w.mu.Unlock()
		switch {
		case errors.Is(err, log.ErrLogFull):
			err = w.free(ctx)
		case errors.Is(err, log.ErrWindowFull):
			err = w.l.WaitRoom(ctx, r.Len, false)
		}
		if err != nil {
			return err
		}
		r.Off, r.Len, r.Data = r.Off+n, r.Len-n, r.Data[n:]
	}
	return nil
}

// free drops all that is durable.
func (w *benchWriter) free(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := w.l.Written()
	if err := w.l.Checkpoint(ctx, c, func(io.Writer) error { return nil }); err != nil {
		return err
	}
	if err := w.l.SetMark(c, log.Mark{}); err != nil {
		return err
	}
	return w.l.Flush(ctx)
}

func BenchmarkAppend(b *testing.B) {
	w := benchWriter{l: benchLog(b, 256<<20)}
	data := make([]byte, log.BlockSize)
	b.ReportAllocs()
	b.SetBytes(log.BlockSize)
	b.ResetTimer()
	defer cpuTime(b)()
	for i := range b.N {
		r := log.Record{Kind: log.Write, Off: int64(i%1000) * log.BlockSize, Len: log.BlockSize, Data: data}
		if err := w.write(b.Context(), r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSequential1M(b *testing.B) {
	w := benchWriter{l: benchLog(b, 512<<20)}
	data := make([]byte, 1<<20)
	b.SetBytes(1 << 20)
	b.ResetTimer()
	defer cpuTime(b)()
	for i := range b.N {
		r := log.Record{Kind: log.Write, Off: int64(i%100) << 20, Len: 1 << 20, Data: data}
		if err := w.write(b.Context(), r); err != nil {
			b.Fatal(err)
		}
	}
	if err := w.l.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
}

func benchFlush(b *testing.B, clients int) {
	w := benchWriter{l: benchLog(b, 256<<20)}
	data := make([]byte, log.BlockSize)
	var left atomic.Int64
	left.Store(int64(b.N))
	b.ResetTimer()
	defer cpuTime(b)()
	before := w.l.Stats()
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			for left.Add(-1) >= 0 {
				r := log.Record{Kind: log.Write, Len: log.BlockSize, Data: data}
				if err := w.write(b.Context(), r); err != nil {
					b.Error(err)
					return
				}
				if err := w.l.Flush(b.Context()); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	st := w.l.Stats()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "flushes/s")
	b.ReportMetric(float64(st.Syncs-before.Syncs)/float64(b.N), "syncs/op")
	b.ReportMetric(float64(st.Groups-before.Groups)/float64(b.N), "groups/op")
}

func BenchmarkFlush1(b *testing.B)  { benchFlush(b, 1) }
func BenchmarkFlush16(b *testing.B) { benchFlush(b, 16) }
