package host

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ratchetos/ratchet/core/plugin/wire"
)

// TestPluginsCallEachOther: the configuration gives the right to one method, and to nothing else.
func TestPluginsCallEachOther(t *testing.T) {
	var log lockedBuffer
	h := newHost(t, Options{Audit: slog.New(slog.NewTextHandler(&log, nil))}, "asks", "answers")
	must(t, apply(t, h, map[string]probeConfig{"asks": {Calls: "answers/pid"}, "answers": {}}))
	if got := invoke(t, h, "asks", "call", "answers/pid"); got != fmt.Sprint(statusOf(t, h, "answers").PID) {
		t.Errorf("the pid of answers is %q", got)
	}
	for _, tc := range []struct{ method, request, want string }{
		{"call", "answers/status", "asks may not call answers/status"},
		{"call", "other/pid", "asks may not call other/pid"},
		{"call", "core", "may not call core/"},
		{"claim method", "answers/status", "from the configuration alone"},
	} {
		_, err := h.Invoke(timeout(t), "asks", tc.method, []byte(tc.request), "test")
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s %s: %v, want %q", tc.method, tc.request, err, tc.want)
		}
	}
	for _, want := range []string{"target=answers/pid outcome=OK", "target=answers/status outcome=PermissionDenied", "caller=asks"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the audit does not hold %q", want)
		}
	}

	// The right goes with the configuration that gave it.
	must(t, apply(t, h, map[string]probeConfig{"asks": {}, "answers": {}}))
	if _, err := h.Invoke(timeout(t), "asks", "call", []byte("answers/pid"), "test"); err == nil {
		t.Error("the right outlived the configuration")
	}
}

// TestCallOfOneThatIsAway: whoever is on its way back is worth another try, whoever is not enabled is not.
func TestCallOfOneThatIsAway(t *testing.T) {
	h := newHost(t, Options{}, "asks", "answers")
	must(t, apply(t, h, map[string]probeConfig{"asks": {Calls: "answers/pid"}}))
	_, err := h.Invoke(timeout(t), "asks", "call", []byte("answers/pid"), "test")
	if err == nil || !strings.Contains(err.Error(), "not enabled") {
		t.Errorf("call of one that is not enabled: %v", err)
	}
	if strings.Contains(err.Error(), "rpc error") {
		t.Errorf("a person reads this: %v", err)
	}
	// It dies at its start again and again.
	if err := apply(t, h, map[string]probeConfig{"asks": {Calls: "answers/pid"}, "answers": {FailAt: "start"}}); err == nil {
		t.Error("a plugin that cannot start was applied")
	}
	if got := invoke(t, h, "asks", "call", "answers/pid"); got != "away" {
		t.Errorf("call of one that cannot start: %q", got)
	}
}

// TestBroke: a call that gave way to a change of the configuration is not taken for one whose process has ended.
func TestBroke(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{status.Error(codes.Unavailable, "connection error: reset by peer"), true},
		{status.Error(codes.Canceled, "grpc: the client connection is closing"), true},
		{status.Error(codes.Unavailable, wire.GivesWay), false},
		{wire.Plain(status.Error(codes.Unavailable, wire.GivesWay)), false},
		{status.Error(codes.Aborted, "no such volume"), false},
		{errShutdown, false},
	} {
		if got := broke(c.err); got != c.want {
			t.Errorf("%v: %v", c.err, got)
		}
	}
}

// TestCallEndsWithEitherSide: neither a process that dies nor one that is stopped is waited for.
func TestCallEndsWithEitherSide(t *testing.T) {
	h := newHost(t, Options{}, "asks", "answers")
	conf := map[string]probeConfig{"asks": {Calls: "answers/wait"}, "answers": {}}
	must(t, apply(t, h, conf))
	waiting := func() chan string {
		ended := make(chan string, 1)
		go func() {
			reply, err := h.Invoke(timeout(t), "asks", "call", []byte("answers/wait"), "test")
			ended <- fmt.Sprint(string(reply), " ", err)
		}()
		for len(h.units["asks"].calls) == 0 {
			select {
			case got := <-ended:
				t.Fatalf("the call ended at once: %s", got)
			case <-time.After(time.Millisecond):
			}
		}
		return ended
	}
	for _, tc := range []struct {
		name string
		end  func()
		want string
	}{
		{"killed", func() {
			pid := statusOf(t, h, "answers").PID
			must(t, syscall.Kill(pid, syscall.SIGKILL))
			ctx := timeout(t)
			for statusOf(t, h, "answers").PID == pid { // until core knows, it would take the dead one for ready
				select {
				case <-ctx.Done():
					t.Fatal("core did not notice the end of a plugin")
				case <-time.After(time.Millisecond):
				}
			}
		}, "away"},
		{"restarted", func() { must(t, h.Restart(timeout(t), "answers")) }, "cancel|away"}, // told, or cut off
		{"the caller restarted", func() { must(t, h.Restart(timeout(t), "asks")) }, ""},
	} {
		must(t, h.units["answers"].ready(timeout(t)))
		ended := waiting()
		tc.end()
		select {
		case got := <-ended:
			if !regexp.MustCompile(tc.want).MatchString(got) {
				t.Errorf("%s: %s, want %q", tc.name, got, tc.want)
			}
		case <-timeout(t).Done():
			t.Fatalf("%s: the call did not end", tc.name)
		}
	}
}

// TestCallInARing: two plugins that wait for each other hold neither core nor each other for good, and cannot pile up.
func TestCallInARing(t *testing.T) {
	h := newHost(t, Options{}, "one", "two")
	must(t, apply(t, h, map[string]probeConfig{"one": {Calls: "two/call"}, "two": {Calls: "one/wait"}}))
	ctx, cancel := context.WithCancel(timeout(t))
	var callers sync.WaitGroup
	for range maxCalls {
		callers.Go(func() { _, _ = h.Invoke(ctx, "one", "call", []byte("two/call"), "test") })
	}
	for len(h.units["two"].calls) < maxCalls {
		select {
		case <-timeout(t).Done():
			t.Fatal("the calls did not arrive")
		case <-time.After(time.Millisecond):
		}
	}
	if _, err := h.Invoke(ctx, "one", "call", []byte("two/call"), "test"); err == nil || !strings.Contains(err.Error(), "under way") {
		t.Errorf("one call more: %v", err)
	}
	must(t, h.Restart(timeout(t), "one"))
	cancel()
	callers.Wait()
}

// TestMethodsThatCannotBeWanted: what the configuration asks for is checked before the plugin starts.
func TestMethodsThatCannotBeWanted(t *testing.T) {
	for selector, want := range map[string]string{
		"answers/nothing": "no such method", "nobody/pid": "there is no plugin", "asks/pid": "does not call itself", "": "",
	} {
		h := newHost(t, Options{}, "asks", "answers")
		err := apply(t, h, map[string]probeConfig{"asks": {Calls: selector}})
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", selector, err, want)
		}
	}
}

// lockedBuffer takes a log while a test reads it.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
