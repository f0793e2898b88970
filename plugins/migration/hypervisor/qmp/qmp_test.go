package qmp

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const hello = `{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "Debian"}, "capabilities": ["oob"]}}` + "\n"

// server is the other end of a client: a script that reads and writes lines.
func server(t *testing.T, script func(r *bufio.Reader, w net.Conn)) (net.Conn, func()) {
	t.Helper()
	here, there := net.Pipe()
	there.SetDeadline(time.Now().Add(5 * time.Second))
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer there.Close()
		script(bufio.NewReader(there), there)
	}()
	return here, func() { here.Close(); <-done }
}

// accept greets and acknowledges the capabilities.
func accept(r *bufio.Reader, w net.Conn) {
	w.Write([]byte(hello))
	r.ReadString('\n')
	w.Write([]byte(`{"return": {}, "id": 1}` + "\n"))
}

func connect(t *testing.T, script func(r *bufio.Reader, w net.Conn)) *Client {
	t.Helper()
	conn, wait := server(t, script)
	c, err := New(t.Context(), conn, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); wait() })
	return c
}

func TestRepliesOutOfOrderAndEventsBetween(t *testing.T) {
	c := connect(t, func(r *bufio.Reader, w net.Conn) {
		accept(r, w)
		r.ReadString('\n')
		r.ReadString('\n')
		w.Write([]byte(`{"timestamp": {"seconds": 1700000000, "microseconds": 5}, "event": "STOP"}` + "\n" +
			`{"return": {"n": 3}, "id": 3}` + "\n" + `{"error": {"class": "GenericError", "desc": "no"}, "id": 2}` + "\n"))
		r.ReadString('\n') // until the client closes
	})
	// Two commands in a known order: the second is sent when the first has left.
	first := make(chan error, 1)
	sent := make(chan struct{})
	c.opts.Transcript = func(ours bool, _ []byte) {
		if ours {
			sent <- struct{}{}
		}
	}
	go func() { first <- c.Do(t.Context(), "one", nil, nil) }()
	<-sent
	var out struct{ N int }
	second := make(chan error, 1)
	go func() { second <- c.Do(t.Context(), "two", map[string]int{"x": 1}, &out) }()
	<-sent
	if err := <-second; err != nil || out.N != 3 {
		t.Errorf("second: %d, %v", out.N, err)
	}
	var refused *Error
	if err := <-first; !errors.As(err, &refused) || refused.Class != "GenericError" || !strings.Contains(err.Error(), "one: no") {
		t.Errorf("first: %v", err)
	}
	if e := <-c.Events(); e.Name != "STOP" || e.Time.Unix() != 1700000000 {
		t.Errorf("event %+v", e)
	}
	if c.Version() != "QEMU 7.2.22" {
		t.Errorf("version %q", c.Version())
	}
}

func TestCallerThatGivesUpDisturbsNobody(t *testing.T) {
	release := make(chan struct{})
	c := connect(t, func(r *bufio.Reader, w net.Conn) {
		accept(r, w)
		r.ReadString('\n')
		<-release
		w.Write([]byte(`{"return": {}, "id": 2}` + "\n"))
		r.ReadString('\n')
		w.Write([]byte(`{"return": {}, "id": 3}` + "\n"))
		r.ReadString('\n')
	})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := c.Do(ctx, "slow", nil, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("slow: %v", err)
	}
	close(release)
	if err := c.Do(t.Context(), "next", nil, nil); err != nil {
		t.Fatalf("next: %v", err)
	}
}

func TestServersThatAreNoMonitor(t *testing.T) {
	for name, tc := range map[string]struct {
		says string
		want string
	}{
		"ssh":                  {"SSH-2.0-OpenSSH\r\n", "decode"},
		"no greeting":          {`{"return": {}}` + "\n", "not a QMP greeting"},
		"endless line":         {strings.Repeat("x", MaxLine+1), "longer than"},
		"silence":              {"", "another client"},
		"closed in the middle": {`{"QMP": `, "EOF"},
		"greets twice":         {hello + hello, "second greeting"},
		"unknown id":           {hello + `{"return": {}, "id": 99}` + "\n", "never sent"},
		"error without id":     {hello + `{"error": {"class": "x", "desc": "Invalid JSON"}}` + "\n", "Invalid JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			conn, wait := server(t, func(r *bufio.Reader, w net.Conn) {
				w.Write([]byte(tc.says))
				if name == "silence" {
					r.ReadString('\n')
				} else if strings.HasPrefix(tc.says, hello) {
					r.ReadString('\n')
				}
			})
			defer wait()
			c, err := New(ctx, conn, nil)
			if err == nil {
				c.Close()
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("New: %v, want an error with %q", err, tc.want)
			}
		})
	}
}

func TestReceiverThatFallsBehindStartsOver(t *testing.T) {
	c := connect(t, func(r *bufio.Reader, w net.Conn) {
		accept(r, w)
		for range eventQueue + 1 {
			w.Write([]byte(`{"event": "RTC_CHANGE"}` + "\n"))
		}
		r.ReadString('\n')
	})
	<-c.done
	if err := c.Err(); !errors.Is(err, ErrSlow) {
		t.Errorf("ended with %v, want ErrSlow", err)
	}
	n := 0
	for range c.Events() {
		n++
	}
	if n != eventQueue {
		t.Errorf("%d events before the end, want %d", n, eventQueue)
	}
}

func TestParseAddress(t *testing.T) {
	for in, want := range map[string]string{
		"tcp:10.0.2.2:4444": "tcp 10.0.2.2:4444", "tcp:[::1]:1": "tcp [::1]:1", "unix:/run/q.sock": "unix /run/q.sock",
		"": "", "tcp:host": "", "tcp:host:0": "", "tcp::4444": "", "unix:relative": "", "udp:h:1": "", "tcp:h:99999": "", "/run/q.sock": "",
	} {
		n, a, err := ParseAddress(in)
		if got := strings.TrimSpace(n + " " + a); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
	}
}

// FuzzParse holds the parser to what the client relies on: one kind of message, and a reply's
// value that is JSON.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		strings.TrimSpace(hello), `{"return": {}, "id": 1}`, `{"return": [], "id": 18446744073709551615}`,
		`{"error": {"class": "GenericError", "desc": "x"}, "id": 2}`, `{"error": {"class": "x", "desc": "Invalid JSON syntax"}}`,
		`{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "BLOCK_JOB_READY", "data": {"device": "d"}}`,
		`{"timestamp": {"seconds": -1, "microseconds": -1}, "event": "STOP"}`, `{"return": 1, "event": "x"}`, `[]`, `null`, `{"id": "text", "return": {}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		m, err := parse(line)
		if err != nil {
			return
		}
		n := 0
		for _, set := range []bool{m.greeting != nil, m.event != nil, m.ok != nil, m.failed != nil} {
			if set {
				n++
			}
		}
		if n != 1 || m.ok != nil && !json.Valid(m.ok) {
			t.Fatalf("%s: %+v", line, m)
		}
		if m.event != nil && !m.event.Time.IsZero() && m.event.Time.Year() < 1970 {
			t.Fatalf("%s: time %v", line, m.event.Time)
		}
	})
}
