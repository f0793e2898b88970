package builder

import (
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"
)

// progress prints one line a step with the time it took. Steps may run side
// by side; lines are written whole.
type progress struct {
	mu sync.Mutex
	w  io.Writer // nil for silence
}

// step starts a step and returns how to end it.
func (p *progress) step(name string) (done func(format string, args ...any)) {
	start := time.Now()
	return func(format string, args ...any) {
		p.line("image: %-20s %5.1f s  %s", name, time.Since(start).Seconds(), fmt.Sprintf(format, args...))
	}
}

func (p *progress) note(format string, args ...any) {
	p.line("image: %s", fmt.Sprintf(format, args...))
}

func (p *progress) line(format string, args ...any) {
	if p.w == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.w, format+"\n", args...)
}

// handler shows what the kernel package logs among the progress lines.
func (p *progress) handler() slog.Handler {
	if p.w == nil {
		return slog.DiscardHandler
	}
	return slog.NewTextHandler(lineWriter{p}, &slog.HandlerOptions{
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	})
}

type lineWriter struct{ p *progress }

func (w lineWriter) Write(b []byte) (int, error) {
	w.p.mu.Lock()
	defer w.p.mu.Unlock()
	if _, err := fmt.Fprintf(w.p.w, "image: %s", b); err != nil {
		return 0, err
	}
	return len(b), nil
}

func size(n int) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }
