package vm

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"
)

// QMP is a connection to QEMU's machine protocol (docs/interop/qmp-spec.txt in QEMU). It is safe for
// concurrent use and lives as long as its machine.
type QMP struct {
	conn net.Conn

	mu      sync.Mutex
	nextID  uint64
	pending map[uint64]chan message
	events  []Event
	seen    int // events delivered or overwritten so far
	arrived int // events received so far
	changed chan struct{}
	err     error // why the connection ended
	ended   chan struct{}
}

// Event is an asynchronous message from QEMU.
type Event struct {
	Name string
	Data json.RawMessage
	Time time.Time
}

// QMPError is QEMU's refusal of a command.
type QMPError struct {
	Command string
	Class   string `json:"class"`
	Desc    string `json:"desc"`
}

func (e *QMPError) Error() string { return fmt.Sprintf("qmp %s: %s", e.Command, e.Desc) }

const (
	eventsKept = 256     // a reader that falls behind loses the oldest
	messageMax = 4 << 20 // bytes of one message
)

// message is any of what QEMU sends: greeting, reply, error or event.
type message struct {
	Greeting  json.RawMessage `json:"QMP"`
	ID        *uint64         `json:"id"`
	Return    json.RawMessage `json:"return"`
	Error     *QMPError       `json:"error"`
	Event     string          `json:"event"`
	Data      json.RawMessage `json:"data"`
	Timestamp struct {
		Seconds      int64 `json:"seconds"`
		Microseconds int64 `json:"microseconds"`
	} `json:"timestamp"`
}

func parseMessage(line []byte) (message, error) {
	var m message
	if err := json.Unmarshal(line, &m); err != nil {
		return message{}, fmt.Errorf("parse qmp message: %w", err)
	}
	if m.Greeting == nil && m.Return == nil && m.Error == nil && m.Event == "" {
		return message{}, errors.New("parse qmp message: neither greeting, reply nor event")
	}
	return m, nil
}

// dialQMP reads the greeting and leaves negotiation mode. It owns conn from then on.
func dialQMP(ctx context.Context, conn net.Conn) (*QMP, error) {
	q := &QMP{conn: conn, pending: map[uint64]chan message{}, changed: make(chan struct{}), ended: make(chan struct{})}
	lines := bufio.NewScanner(conn)
	lines.Buffer(make([]byte, 0, 4096), messageMax)
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	ok := lines.Scan()
	if !stop() {
		conn.Close()
		return nil, fmt.Errorf("wait for the qmp greeting: %w", context.Cause(ctx))
	}
	if m, err := parseMessage(lines.Bytes()); !ok || err != nil || m.Greeting == nil {
		conn.Close()
		return nil, fmt.Errorf("wait for the qmp greeting: got %q: %w", lines.Bytes(), errors.Join(err, lines.Err()))
	}
	go q.read(lines)
	if err := q.Do(ctx, "qmp_capabilities", nil, nil); err != nil {
		q.Close()
		return nil, err
	}
	return q, nil
}

func (q *QMP) read(lines *bufio.Scanner) {
	var err error
	for err == nil && lines.Scan() {
		var m message
		if m, err = parseMessage(lines.Bytes()); err == nil {
			q.dispatch(m)
		}
	}
	if err == nil {
		err = lines.Err()
	}
	if err == nil {
		err = errors.New("connection closed")
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.err = err
	for id, reply := range q.pending {
		close(reply)
		delete(q.pending, id)
	}
	q.wake()
	_ = q.conn.Close()
	close(q.ended)
}

func (q *QMP) dispatch(m message) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case m.Event != "":
		at := time.Unix(m.Timestamp.Seconds, m.Timestamp.Microseconds*1000)
		q.events = append(q.events, Event{Name: m.Event, Data: m.Data, Time: at})
		q.arrived++
		if len(q.events) > eventsKept {
			q.events = slices.Delete(q.events, 0, len(q.events)-eventsKept)
		}
		q.wake()
	case m.ID != nil:
		if reply, ok := q.pending[*m.ID]; ok {
			delete(q.pending, *m.ID)
			reply <- m // has room for the one reply there is
		}
	}
}

func (q *QMP) wake() {
	close(q.changed)
	q.changed = make(chan struct{})
}

// Do runs a command. args may be nil or anything that marshals to a JSON object; the reply is unmarshalled into
// result unless that is nil. A refusal by QEMU is a *QMPError.
func (q *QMP) Do(ctx context.Context, command string, args, result any) error {
	q.mu.Lock()
	if q.err != nil {
		defer q.mu.Unlock()
		return fmt.Errorf("qmp %s: %w", command, q.err)
	}
	q.nextID++
	id := q.nextID
	reply := make(chan message, 1)
	b, err := json.Marshal(struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
		ID        uint64 `json:"id"`
	}{command, args, id})
	if err == nil {
		q.pending[id] = reply
		// Written under the lock: messages must not interleave. A deadline frees the lock if QEMU hangs.
		deadline, ok := ctx.Deadline()
		if !ok {
			deadline = time.Now().Add(10 * time.Second)
		}
		_ = q.conn.SetWriteDeadline(deadline)
		_, err = q.conn.Write(append(b, '\n'))
	}
	if err != nil {
		delete(q.pending, id)
		q.mu.Unlock()
		return fmt.Errorf("qmp %s: %w", command, err)
	}
	q.mu.Unlock()

	select {
	case m, ok := <-reply:
		switch {
		case !ok:
			return fmt.Errorf("qmp %s: %w", command, q.reason())
		case m.Error != nil:
			m.Error.Command = command
			return m.Error
		case result != nil:
			if err := json.Unmarshal(m.Return, result); err != nil {
				return fmt.Errorf("qmp %s: parse the reply: %w", command, err)
			}
		}
		return nil
	case <-ctx.Done():
		q.mu.Lock()
		delete(q.pending, id)
		q.mu.Unlock()
		return fmt.Errorf("qmp %s: %w", command, context.Cause(ctx))
	}
}

func (q *QMP) reason() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.err
}

// Event waits for the next event with one of the names, or for any if none is given. It passes over, and
// forgets, the others before it.
func (q *QMP) Event(ctx context.Context, names ...string) (Event, error) {
	for {
		q.mu.Lock()
		first := q.arrived - len(q.events) // number of the oldest one kept
		for q.seen = max(q.seen, first); q.seen < q.arrived; {
			e := q.events[q.seen-first]
			q.seen++
			if len(names) == 0 || slices.Contains(names, e.Name) {
				q.mu.Unlock()
				return e, nil
			}
		}
		changed, err := q.changed, q.err
		q.mu.Unlock()
		if err != nil {
			return Event{}, fmt.Errorf("wait for qmp event %v: %w", names, err)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return Event{}, fmt.Errorf("wait for qmp event %v: %w", names, context.Cause(ctx))
		}
	}
}

// recent returns the events still kept, oldest first.
func (q *QMP) recent() []Event {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Clone(q.events)
}

// Close ends the connection; QEMU goes on.
func (q *QMP) Close() error { return q.conn.Close() }
