package plugin

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
)

// record runs a stream in a bubble of fake time and notes when it sends what.
func record(ctx context.Context, w *watch) *[]string {
	start := time.Now()
	sent := new([]string)
	go func() {
		_ = w.stream(ctx, func(e *pluginpb.Event) error {
			*sent = append(*sent, fmt.Sprintf("%s %s %q", time.Since(start), e.GetHealth(), e.GetMessage()))
			return nil
		})
	}()
	return sent
}

func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		w := newWatch(0)
		sent := record(ctx, w)
		report := func(h pluginpb.Event_Health, m string) { w.report(&pluginpb.Event{Health: h, Message: m}) }
		time.Sleep(2500 * time.Millisecond) // nothing to say: heartbeats
		report(pluginpb.Event_OK, "a")      // at once, the last one is long ago
		synctest.Wait()
		report(pluginpb.Event_OK, "b") // too soon; only the last of these is sent
		report(pluginpb.Event_OK, "c")
		time.Sleep(150 * time.Millisecond)
		report(pluginpb.Event_DEGRADED, "bad") // bad news do not wait
		synctest.Wait()
		time.Sleep(time.Second)
		cancel()
		synctest.Wait()
		want := []string{
			`0s OK ""`, `1s OK ""`, `2s OK ""`,
			`2.5s OK "a"`, `2.6s OK "c"`, `2.65s DEGRADED "bad"`, `3.65s DEGRADED "bad"`,
		}
		if d := cmp.Diff(want, *sent); d != "" {
			t.Error(d)
		}
	})
}

func TestWatchEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatch(time.Second)
		broken := errors.New("broken")
		if err := w.stream(t.Context(), func(*pluginpb.Event) error { return broken }); !errors.Is(err, broken) {
			t.Errorf("lost stream: %v", err)
		}
		close(w.done)
		if err := w.stream(t.Context(), func(*pluginpb.Event) error { return nil }); err != nil {
			t.Errorf("end of the process: %v", err)
		}
	})
}

// TestReportIsACopy: a feature may reuse its event.
func TestReportIsACopy(t *testing.T) {
	w := newWatch(0)
	e := &pluginpb.Event{Message: "before"}
	w.report(e)
	e.Message = "after"
	if got, _ := w.latest(); got.GetMessage() != "before" {
		t.Errorf("message %q", got.GetMessage())
	}
	w.report(nil)
}
