package qmp_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/qmp"
	"github.com/ratchetos/ratchet/plugins/migration/model"
	"github.com/ratchetos/ratchet/plugins/migration/vmhost/args"
	"github.com/ratchetos/ratchet/plugins/migration/vmhost/vmhosttest"
)

var record = flag.Bool("record", false, "record testdata/transcripts anew, from real QEMUs")

// exchange is a line of a monitor: ours with the reply to it, or an event.
type exchange struct {
	Execute   string          `json:"execute,omitempty"`
	Arguments json.RawMessage `json:"arguments,omitempty"`
	Reply     json.RawMessage `json:"reply,omitempty"` // without its id
	Event     json.RawMessage `json:"event,omitempty"`
}

// recorder makes exchanges of a monitor's lines.
type recorder struct {
	mu      sync.Mutex
	lines   []exchange
	pending map[uint64]int // of a command, by its id
}

func (r *recorder) line(sent bool, line []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var m struct {
		Execute   string
		Arguments json.RawMessage
		Event     string
		ID        *uint64
	}
	if json.Unmarshal(line, &m) != nil || bytes.Contains(line, []byte(`"QMP"`)) {
		return
	}
	switch {
	case sent:
		if r.pending == nil {
			r.pending = map[uint64]int{}
		}
		r.pending[*m.ID] = len(r.lines)
		r.lines = append(r.lines, exchange{Execute: m.Execute, Arguments: m.Arguments})
	case m.Event != "":
		r.lines = append(r.lines, exchange{Event: slices.Clone(bytes.TrimSpace(line))})
	case m.ID != nil:
		var reply map[string]json.RawMessage
		_ = json.Unmarshal(line, &reply) // it was parsed above
		delete(reply, "id")
		r.lines[r.pending[*m.ID]].Reply, _ = json.Marshal(reply)
	}
}

// TestRecord writes the transcripts of both monitors of a move, when it is asked to.
func TestRecord(t *testing.T) {
	if !*record {
		return
	}
	dir, err := os.MkdirTemp("", "hv") //nolint:usetesting // t.TempDir is too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	monitors := map[string]*recorder{"a": {}, "b": {}}
	h, err := vmhosttest.New(t.Context(), dir, vmhosttest.Options{
		Networks:   map[string]args.Network{"lan": args.User()},
		Transcript: func(host, _ string, sent bool, line []byte) { monitors[host].line(sent, line) },
	}, "a", "b")
	if err != nil {
		t.Fatal(err)
	}
	w := startOn(t, h, func(*vmhosttest.Hosts, *model.Shape) {})
	w.finish(w.perform(w.prepare()))
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	for host, m := range monitors {
		var b bytes.Buffer
		for _, e := range m.lines {
			// What CPU models there are fills a book, and is no part of a move.
			if line, _ := json.Marshal(e); !strings.HasPrefix(e.Execute, "query-cpu-") && (e.Event != nil || e.Reply != nil) {
				fmt.Fprintf(&b, "%s\n", line)
			}
		}
		if err := os.WriteFile(filepath.Join("testdata", "transcripts", host+".jsonl"), b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestReplay: the monitors of a real move, with their events at other times than they came. Each command gets its own reply,
// and each event comes once.
func TestReplay(t *testing.T) {
	for _, host := range []string{"a", "b"} {
		file, err := os.ReadFile(filepath.Join("testdata", "transcripts", host+".jsonl"))
		if err != nil {
			t.Fatal(err)
		}
		var commands, events []exchange
		for line := range bytes.Lines(file) {
			var e exchange
			if err := json.Unmarshal(line, &e); err != nil {
				t.Fatal(err)
			}
			if e.Event != nil {
				events = append(events, e)
			} else if e.Execute != "qmp_capabilities" {
				commands = append(commands, e)
			}
		}
		if len(commands) < 10 || len(events) < 3 {
			t.Fatalf("%s: %d commands and %d events are no move", host, len(commands), len(events))
		}
		for seed := range uint64(20) {
			replay(t, commands, events, rand.New(rand.NewPCG(seed, 0)))
		}
	}
}

// replay runs the commands against a monitor that answers as recorded, with the events in between by chance.
func replay(t *testing.T, commands, events []exchange, by *rand.Rand) {
	t.Helper()
	events = slices.Clone(events)
	by.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
	at := make([]int, len(events)) // the command before whose reply each comes
	for i := range at {
		at[i] = by.IntN(len(commands))
	}
	here, there := net.Pipe()
	served := make(chan error, 1)
	go func() { served <- answer(there, commands, events, at) }()
	ctx, cancel := context.WithTimeout(t.Context(), callLimit)
	defer cancel()
	c, err := qmp.New(ctx, here, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := 0
	counted := make(chan struct{})
	go func() {
		defer close(counted)
		for range c.Events() {
			got++
		}
	}()
	for _, e := range commands {
		var want struct {
			Return json.RawMessage
			Error  *struct{ Desc string }
		}
		if err := json.Unmarshal(e.Reply, &want); err != nil {
			t.Fatal(err)
		}
		var out json.RawMessage
		err := c.Do(ctx, e.Execute, e.Arguments, &out)
		var refused *qmp.Error
		switch {
		case want.Error != nil && (!errors.As(err, &refused) || refused.Desc != want.Error.Desc):
			t.Errorf("%s: %v, want %q", e.Execute, err, want.Error.Desc)
		case want.Error == nil && (err != nil || !bytes.Equal(out, want.Return)):
			t.Errorf("%s: %s, %v, want %s", e.Execute, out, err, want.Return)
		}
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
	c.Close()
	if <-counted; got != len(events) {
		t.Errorf("%d events, want %d", got, len(events))
	}
}

// answer is the monitor.
func answer(conn net.Conn, commands, events []exchange, at []int) error {
	if _, err := fmt.Fprintln(conn, `{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": ""}, "capabilities": []}}`); err != nil {
		return err
	}
	lines := bufio.NewReader(conn)
	for i := -1; i < len(commands); i++ {
		text, err := lines.ReadBytes('\n')
		if err != nil {
			return err
		}
		var c struct {
			Execute string
			ID      uint64
		}
		if err := json.Unmarshal(text, &c); err != nil {
			return err
		}
		reply := []byte(`{"return": {}}`)
		if i >= 0 {
			if reply = commands[i].Reply; c.Execute != commands[i].Execute {
				return fmt.Errorf("got %s, want %s", c.Execute, commands[i].Execute)
			}
			for j, e := range events {
				if at[j] == i {
					if _, err := fmt.Fprintf(conn, "%s\n", e.Event); err != nil {
						return err
					}
				}
			}
		}
		if _, err := fmt.Fprintf(conn, "%s, \"id\": %d}\n", bytes.TrimSuffix(reply, []byte("}")), c.ID); err != nil {
			return err
		}
		if i == len(commands)-1 {
			return nil
		}
	}
	return nil
}
