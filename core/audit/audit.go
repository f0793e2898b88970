// Package audit keeps a box's audit trail: who changed what, and what was refused.
//
// A [Trail] takes log records and keeps each as one line of JSON, in files of a folder that are rotated, or in memory.
// What callers without any credentials are refused is kept apart, in as much room: whoever can reach the box can cause
// such lines, and must not be able to push the others out.
//
// Guarantees. The room is bounded: limit for each of two generations of each of the two kinds, maxValue for each text in a
// line. The lines of the last half a minute may be lost with the power. Lines that cannot be read are left out.
//
// Concurrency. All methods may be called from any goroutine.
package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ratchetos/ratchet/core/api/pki"
)

// maxValue bounds a text of a line, in bytes: callers choose some of them.
const maxValue = 512

// Trail is an audit trail. Make it with Open.
type Trail struct{ known, strangers *journal }

// Line is one record.
type Line struct {
	Time time.Time
	Text string // JSON, as slog's handler writes it
}

// Open goes on with the trail in a folder, which it makes; "" keeps one in memory. failed is told when a line cannot be
// written, once until one can be again; nil ignores that.
func Open(dir string, failed func(error)) (*Trail, error) {
	t := &Trail{known: &journal{failed: failed}, strangers: &journal{failed: failed}}
	if dir == "" {
		return t, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open audit trail: %w", err)
	}
	t.known.path, t.strangers.path = filepath.Join(dir, "changes.log"), filepath.Join(dir, "strangers.log")
	if err := errors.Join(t.known.open(), t.strangers.open()); err != nil {
		return nil, errors.Join(fmt.Errorf("open audit trail: %w", err), t.Close())
	}
	return t, nil
}

// Close ends the trail; later lines are dropped.
func (t *Trail) Close() error { return errors.Join(t.known.close(), t.strangers.close()) }

// Lines returns the newest n lines, oldest first; n <= 0 means all.
func (t *Trail) Lines(n int) ([]Line, error) {
	type placed struct {
		Line
		at time.Time // where it is among those of the other kind
	}
	var all []placed
	for _, j := range []*journal{t.known, t.strangers} {
		b, err := j.read()
		if err != nil {
			return nil, fmt.Errorf("read audit trail: %w", err)
		}
		from := len(all)
		for text := range bytes.Lines(b) {
			var head struct{ Time time.Time }
			if json.Unmarshal(text, &head) == nil {
				all = append(all, placed{Line{head.Time, strings.TrimSuffix(string(text), "\n")}, head.Time})
			}
		}
		// A clock that was put back is no reason to show what came after it first, or not at all.
		for i := len(all) - 2; i >= from; i-- {
			if next := all[i+1].at; next.Before(all[i].at) {
				all[i].at = next
			}
		}
	}
	slices.SortStableFunc(all, func(a, b placed) int { return a.at.Compare(b.at) })
	if n > 0 && n < len(all) {
		all = all[len(all)-n:]
	}
	out := make([]Line, len(all))
	for i, p := range all {
		out[i] = p.Line
	}
	return out, nil
}

// Handler takes records of level Info and above.
func (t *Trail) Handler() slog.Handler {
	return handler{known: lines(t.known), strangers: lines(t.strangers)}
}

func lines(w io.Writer) slog.Handler {
	return slog.NewJSONHandler(w, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		switch {
		case a.Value.Kind() == slog.KindDuration:
			a.Value = slog.StringValue(a.Value.Duration().String())
		case a.Value.Kind() == slog.KindString && len(a.Value.String()) > maxValue:
			a.Value = slog.StringValue(strings.ToValidUTF8(a.Value.String()[:maxValue], "") + "…")
		}
		return a
	}})
}

// handler tells what strangers were refused from everything else, by the caller's role.
type handler struct{ known, strangers slog.Handler }

var _ slog.Handler = handler{}

// Enabled implements slog.Handler.
func (h handler) Enabled(ctx context.Context, l slog.Level) bool { return h.known.Enabled(ctx, l) }

// Handle implements slog.Handler.
func (h handler) Handle(ctx context.Context, r slog.Record) error {
	to := h.known
	r.Attrs(func(a slog.Attr) bool {
		if r.Level > slog.LevelInfo && a.Key == "role" && a.Value.String() == pki.None.String() {
			to = h.strangers
		}
		return true
	})
	return to.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return handler{h.known.WithAttrs(attrs), h.strangers.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (h handler) WithGroup(name string) slog.Handler {
	return handler{h.known.WithGroup(name), h.strangers.WithGroup(name)}
}
