package host

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
	"github.com/ratchetos/ratchet/core/plugin/wire"
	"github.com/ratchetos/ratchet/core/supervise"
)

// Restart drains the plugin and starts it in a new process. It returns when that serves.
func (h *Host) Restart(ctx context.Context, name string) error {
	u, err := h.unit(name)
	if err != nil {
		return err
	}
	v, _ := u.look()
	switch v.state {
	case supervise.Isolated:
		return fmt.Errorf("restart %s: isolated: %s", name, v.message)
	case supervise.Absent, supervise.Stopped:
		return fmt.Errorf("restart %s: it is not enabled; enable it under plugins in the configuration", name)
	}
	if err := u.do(ctx, func(now time.Time) { u.step(now, supervise.Input{Kind: supervise.Restart}) }); err != nil {
		return fmt.Errorf("restart %s: %w", name, err)
	}
	return u.ready(ctx)
}

// Kill ends the process of a plugin at once, as a crash would, and returns when the next one serves, or with the reason why
// none will. It is for a plugin that does not answer.
func (h *Host) Kill(ctx context.Context, name string) error {
	u, err := h.unit(name)
	if err != nil {
		return err
	}
	v, _ := u.look()
	if v.process == nil {
		return fmt.Errorf("kill %s: %s", name, notRunning(name, v.state, v.message))
	}
	v.process.kill()
	if _, err = u.changedFrom(ctx, v.process); err == nil {
		// It may have to sit out a back-off, which is no failure here.
		v, err = u.settled(ctx, func(v view) bool { return v.state.Serving() || v.refused || v.stopped() })
	}
	if err == nil && v.refused {
		err = errors.New(notRunning(name, v.state, v.message))
	}
	if err != nil {
		return fmt.Errorf("kill %s: %w", name, err)
	}
	return nil
}

// notRunning says why a plugin cannot answer, and what to do when it was never asked to run.
func notRunning(name string, s supervise.State, message string) string {
	switch {
	case s == supervise.Absent || s == supervise.Stopped:
		return fmt.Sprintf("%s is not enabled; enable it under plugins in the configuration", name)
	case message == "":
		return fmt.Sprintf("%s is %s", name, s)
	}
	return fmt.Sprintf("%s is %s: %s", name, s, message)
}

// Invoke calls a method of the plugin's management service. Request and reply are JSON;
// caller is the authenticated name of who asked.
func (h *Host) Invoke(ctx context.Context, name, method string, req []byte, caller string) ([]byte, error) {
	u, err := h.unit(name)
	if err != nil {
		return nil, err
	}
	v, _ := u.look()
	if v.process == nil {
		away := &awayError{text: notRunning(name, v.state, v.message), soon: !v.stopped()}
		return nil, fmt.Errorf("invoke %s of %s: %w", method, name, away)
	}
	r, err := v.process.rpc.Invoke(ctx, &pluginpb.InvokeRequest{Method: method, Json: req, Caller: caller})
	switch {
	case ctx.Err() == nil && broke(err):
		return nil, fmt.Errorf("invoke %s of %s: its process ended meanwhile, try again: %w", method, name, wire.Plain(err))
	case err != nil:
		return nil, fmt.Errorf("invoke %s of %s: %w", method, name, wire.Plain(err))
	}
	return r.GetJson(), nil
}

// broke says whether a call failed because the connection broke, or core has closed it: the process ends.
func broke(err error) bool {
	switch s := status.Convert(err); s.Code() {
	case codes.Unavailable:
		return s.Message() != wire.GivesWay
	case codes.Canceled:
		return true
	}
	return false
}

// Logs returns the plugin's newest n log lines, oldest first; n <= 0 means all that are kept.
func (h *Host) Logs(name string, n int) ([]LogLine, error) {
	u, err := h.unit(name)
	if err != nil {
		return nil, err
	}
	return u.ring.last(n), nil
}

// Subscribe returns a channel of state changes until ctx ends. A subscriber that does not
// read loses the oldest ones.
func (h *Host) Subscribe(ctx context.Context) <-chan Event { return h.events.subscribe(ctx) }
