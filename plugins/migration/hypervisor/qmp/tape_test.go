package qmp_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/ratchetos/ratchet/plugins/migration/vmhost/client"
)

// note is a line of a tape: what a manager asked an agent and its answer, an event, or something that a test did.
type note struct {
	Host   string          `json:"host,omitempty"`
	Epoch  string          `json:"epoch,omitempty"`
	Asked  string          `json:"asked,omitempty"` // method and path
	Body   json.RawMessage `json:"body,omitempty"`
	Status int             `json:"status,omitempty"`
	Reply  json.RawMessage `json:"reply,omitempty"`
	Event  json.RawMessage `json:"event,omitempty"`
	Did    string          `json:"did,omitempty"`
}

// key is what asks for the same.
func (n note) key() string {
	return strings.Join([]string{n.Host, n.Epoch, n.Asked, string(n.Body)}, " ")
}

// order tells that it changes something: what is seen after it must not be seen before.
func (n note) order() bool {
	return n.Did != "" || strings.HasPrefix(n.Asked, "POST") && !bytes.Contains(n.Body, []byte(`"execute":"query-`))
}

// tape is what two agents were asked and answered in one case of the suite, in order.
type tape struct {
	mu     sync.Mutex
	notes  []note
	used   []bool         // notes that were given out
	next   map[string]int // of each key, the first note that was not
	floor  int            // notes before it are past
	told   int            // events before it were sent
	listen map[string]chan json.RawMessage
	wrong  []string // what was asked that is not on it
}

// add records a note. What was answered again as the time before is left out.
func (t *tape) add(n note) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if i := t.last(n.key()); n.Asked != "" && !n.order() && i >= 0 && bytes.Equal(t.notes[i].Reply, n.Reply) &&
		!slices.ContainsFunc(t.notes[i:], func(m note) bool { return m.order() || m.Event != nil }) {
		return
	}
	t.notes = append(t.notes, n)
}

func (t *tape) last(key string) int {
	for i := len(t.notes) - 1; i >= 0; i-- {
		if t.notes[i].Asked != "" && t.notes[i].key() == key {
			return i
		}
	}
	return -1
}

// answer is what a request is answered with.
func (t *tape) answer(q note) (note, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := t.find(q)
	if i < 0 {
		return note{}, fmt.Errorf("not on the tape from %d: %.300s", t.floor, q.key())
	}
	t.play(i)
	t.next[q.key()] = i + 1
	return t.notes[i], nil
}

// find is the note that answers a request: the next one of its kind that is not past, and which nobody has to order anything for
// before; otherwise the last one that was true.
func (t *tape) find(q note) int {
	old := -1
	for i, n := range t.notes {
		switch {
		case n.Asked == "" || n.key() != q.key():
			if n.order() && !t.used[i] && i >= t.floor && !q.order() {
				return old // what comes after it is not so yet
			}
		case q.order() && !t.used[i]:
			return i
		case !q.order() && i >= max(t.floor, t.next[q.key()]):
			return i
		case !q.order():
			old = i
		}
	}
	return old
}

// play notes that a note was given out, and sends the events up to the next one.
func (t *tape) play(i int) {
	t.used[i] = true
	if t.notes[i].order() {
		t.floor = max(t.floor, i+1)
	}
	for i++; i < len(t.notes) && t.notes[i].Event != nil; i++ {
	}
	for ; t.told < i; t.told++ {
		if n := t.notes[t.told]; n.Event != nil && t.listen[n.Host] != nil {
			t.listen[n.Host] <- n.Event
		}
	}
}

// did is called where a test does something to the hosts.
func (t *tape) did(what string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.listen == nil {
		t.notes = append(t.notes, note{Did: what})
		return
	}
	for i, n := range t.notes {
		if n.Did == what && !t.used[i] {
			t.play(i)
			return
		}
	}
}

// serve is the agent of a host, as the tape remembers it.
func (t *tape) serve(host string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/events" {
			t.events(w, r, host)
			return
		}
		q, err := asked(host, r)
		var n note
		if err == nil {
			n, err = t.answer(q)
		}
		if err != nil {
			t.mu.Lock()
			t.wrong = append(t.wrong, err.Error()) // a case that wants a refusal is not to be pleased with this one
			t.mu.Unlock()
			http.Error(w, err.Error(), http.StatusTeapot)
			return
		}
		w.WriteHeader(n.Status)
		_, _ = w.Write(n.Reply)
	}
}

// asked is a request as a note without its answer.
func asked(host string, r *http.Request) (note, error) {
	var body bytes.Buffer
	_, err := body.ReadFrom(r.Body)
	return note{Host: host, Epoch: r.Header.Get(client.EpochHeader), Asked: r.Method + " " + r.URL.Path, Body: body.Bytes()}, err
}

// manyEvents is more than a case has.
const manyEvents = 4096

func (t *tape) events(w http.ResponseWriter, r *http.Request, host string) {
	c := make(chan json.RawMessage, manyEvents)
	t.mu.Lock()
	t.listen[host] = c
	t.mu.Unlock()
	control := http.NewResponseController(w)
	_ = control.Flush()
	for {
		select {
		case e := <-c:
			_, _ = fmt.Fprintf(w, "%s\n", e)
			_ = control.Flush()
		case <-r.Context().Done():
			return
		}
	}
}

// readTape makes a tape ready to be played.
func readTape(path string) (*tape, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	t := &tape{next: map[string]int{}, listen: map[string]chan json.RawMessage{}}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, client.MaxBody)
	for lines.Scan() {
		var n note
		if err := json.Unmarshal(lines.Bytes(), &n); err != nil {
			return nil, err
		}
		t.notes = append(t.notes, n)
	}
	t.used = make([]bool, len(t.notes))
	return t, lines.Err()
}

func (t *tape) write(path string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var b bytes.Buffer
	for _, n := range t.notes {
		line, err := json.Marshal(n)
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s\n", line)
	}
	return os.WriteFile(path, b.Bytes(), 0o644)
}
