package vm

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// peer plays QEMU's end of a connection: it answers each command by what answer returns, line by line.
func peer(t *testing.T, greeting string, answer func(line string) []string) (*QMP, error) {
	t.Helper()
	ours, theirs := net.Pipe()
	t.Cleanup(func() { theirs.Close() })
	go func() {
		defer theirs.Close()
		fmt.Fprintln(theirs, greeting)
		in := bufio.NewScanner(theirs)
		for in.Scan() {
			lines := []string{`{"return": {}, "id": 1}`} // to qmp_capabilities
			if !strings.Contains(in.Text(), "qmp_capabilities") {
				lines = answer(in.Text())
			}
			if lines == nil {
				return
			}
			for _, l := range lines {
				fmt.Fprintln(theirs, l)
			}
		}
	}()
	return dialQMP(bounded(t, 5*time.Second), ours)
}

const hello = `{"QMP": {"version": {}, "capabilities": []}}`

func TestQMPDo(t *testing.T) {
	q, err := peer(t, hello, func(line string) []string {
		switch {
		case strings.Contains(line, "refuse"):
			return []string{`{"id": 3, "error": {"class": "GenericError", "desc": "no"}}`}
		case strings.Contains(line, "hang up"):
			return nil
		}
		// A stranger's reply and an event come first.
		return []string{`{"return": 1, "id": 99}`, `{"event": "STOP", "timestamp": {"seconds": 7, "microseconds": 1}}`, `{"return": {"answer": 42}, "id": 2}`}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	var got struct{ Answer int }
	if err := q.Do(t.Context(), "ask", map[string]int{"x": 1}, &got); err != nil || got.Answer != 42 {
		t.Fatalf("%+v, %v", got, err)
	}
	var refusal *QMPError
	if err := q.Do(t.Context(), "refuse", nil, nil); !errors.As(err, &refusal) || err.Error() != "qmp refuse: no" {
		t.Fatalf("got %v", err)
	}
	e, err := q.Event(t.Context(), "STOP")
	if err != nil || e.Time.Unix() != 7 {
		t.Fatalf("%+v, %v", e, err)
	}
	if err := q.Do(t.Context(), "hang up", nil, nil); err == nil {
		t.Fatal("no error from a closed connection")
	}
	if err := q.Do(t.Context(), "again", nil, nil); err == nil {
		t.Fatal("no error after the connection was closed")
	}
	if _, err := q.Event(t.Context()); err == nil {
		t.Fatal("an event after the connection was closed")
	}
}

func TestQMPEndsWithContext(t *testing.T) {
	q, err := peer(t, hello, func(string) []string { return []string{} })
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := q.Do(ctx, "query-nothing", nil, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("do: %v", err)
	}
	if _, err := q.Event(ctx, "NEVER"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("event: %v", err)
	}
	if n := len(q.pending); n != 0 {
		t.Errorf("%d commands still pending", n)
	}
}

func TestQMPGreeting(t *testing.T) {
	for _, bad := range []string{"", "garbage", `{"event": "X"}`, `{}`} {
		if q, err := peer(t, bad, nil); err == nil {
			q.Close()
			t.Errorf("accepted %q", bad)
		}
	}
	ours, theirs := net.Pipe() // says nothing at all
	defer theirs.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := dialQMP(ctx, ours); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("silent peer: %v", err)
	}
}

func TestQMPKeepsLatestEvents(t *testing.T) {
	q, err := peer(t, hello, func(string) []string {
		var lines []string
		for i := range eventsKept + 10 {
			lines = append(lines, fmt.Sprintf(`{"event": "E%d"}`, i))
		}
		return append(lines, `{"return": {}, "id": 2}`)
	})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	if err := q.Do(t.Context(), "flood", nil, nil); err != nil {
		t.Fatal(err)
	}
	if e, err := q.Event(t.Context()); err != nil || e.Name != "E10" {
		t.Errorf("oldest event kept: %+v, %v, want E10", e, err)
	}
}

func FuzzParseMessage(f *testing.F) {
	f.Add([]byte(hello))
	f.Add([]byte(`{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-shutdown"}, "timestamp": {"seconds": 1, "microseconds": 2}}`))
	f.Add([]byte(`{"id": 1, "error": {"class": "GenericError", "desc": "x"}}`))
	f.Add([]byte(`{"return": null, "id": -1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		q := &QMP{pending: map[uint64]chan message{1: make(chan message, 1)}, changed: make(chan struct{})}
		if m, err := parseMessage(b); err == nil {
			q.dispatch(m)
			q.dispatch(m) // a second reply to the same command must not block
		}
	})
}
