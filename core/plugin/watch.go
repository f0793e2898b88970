package plugin

import (
	"context"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
)

const (
	defaultHeartbeat = time.Second
	// reportInterval is the least time between two events of one health, so that a
	// feature which reports at every packet does not flood core.
	reportInterval = 100 * time.Millisecond
)

// watch holds the latest event of the feature and feeds it to the Watch streams.
type watch struct {
	heartbeat time.Duration
	done      chan struct{} // closed at the end of the process

	mu      sync.Mutex
	event   Event
	changed chan struct{} // closed and replaced at every report
}

func newWatch(heartbeat time.Duration) *watch {
	if heartbeat <= 0 {
		heartbeat = defaultHeartbeat
	}
	return &watch{
		heartbeat: heartbeat,
		done:      make(chan struct{}),
		event:     &pluginpb.Event{},
		changed:   make(chan struct{}),
	}
}

// report keeps a copy of the event as the latest one and never blocks.
func (w *watch) report(e Event) {
	if e == nil {
		return
	}
	// The feature may go on building its next event in the same message.
	e, ok := proto.Clone(e).(Event)
	if !ok {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.event = e
	close(w.changed)
	w.changed = make(chan struct{})
}

func (w *watch) latest() (Event, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.event, w.changed
}

// stream sends the latest event at once, on change, and at least every heartbeat.
func (w *watch) stream(ctx context.Context, send func(*pluginpb.Event) error) error {
	beat := time.NewTimer(w.heartbeat)
	defer beat.Stop()
	for {
		event, changed := w.latest()
		if err := send(event); err != nil {
			return err
		}
		sent := time.Now()
		beat.Reset(w.heartbeat)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.done:
			return nil
		case <-beat.C:
			continue
		case <-changed:
		}
		// Bad news at once, the rest no more often than the interval.
		if now, _ := w.latest(); now.GetHealth() != event.GetHealth() {
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.done:
			return nil
		case <-time.After(reportInterval - time.Since(sent)):
		}
	}
}
