package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

const (
	// Version of the language.
	Version = 1
	// Port is the name of the virtio-serial port in the guest.
	Port = "org.ratchet.agent.0"
	// MaxLine is the size of the longest line, newline included.
	MaxLine = 64 << 10
	// MaxID bounds a request's ID.
	MaxID = 128
	// Remembered is how many answered orders the agent keeps.
	Remembered = 128
	// MaxWait bounds how long an order may wait for hardware to appear or go.
	MaxWait = time.Minute
)

// Verb is what a request asks for.
type Verb string

// The verbs. Report and Ping change nothing.
const (
	Report        Verb = "report"         // → model.Guest
	Ping          Verb = "ping"           // → Pong
	Augment       Verb = "augment"        // Capabilities → Augmented
	OnlineCPUs    Verb = "online-cpus"    // CPUs → CPUs
	OfflineCPUs   Verb = "offline-cpus"   // CPUs → CPUs
	OnlineMemory  Verb = "online-memory"  // Memory → Memory
	OfflineMemory Verb = "offline-memory" // Memory → Memory
	SwapNIC       Verb = "swap-nic"       // NICs → NICSwap
	Disks         Verb = "disks"          // DiskQuery → DiskList
	RunHook       Verb = "hook"           // Hook → {}
)

// Request is a line to the agent.
type Request struct {
	Version int    `json:"v"`
	ID      string `json:"id"`
	Verb    Verb   `json:"verb"`
	// Wait is how long the order may take, in milliseconds; 0 leaves it to the agent.
	Wait int64           `json:"wait_ms,omitempty"`
	Args json.RawMessage `json:"args,omitempty"`
}

// Response is a line from the agent: Result or Error.
type Response struct {
	Version int             `json:"v"`
	ID      string          `json:"id"`
	Result  json.RawMessage `json:"result,omitempty"`
	Error   *Error          `json:"error,omitempty"`
}

// Error is a refusal or a failure in the guest.
type Error struct {
	Code Code   `json:"code"`
	Text string `json:"text"`
}

func (e *Error) Error() string { return e.Text }

// Code sorts errors by what the manager does about them.
type Code string

const (
	// BadRequest is the manager's own fault.
	BadRequest Code = "bad-request"
	// UnknownVerb means that the agent is older than the manager.
	UnknownVerb Code = "unknown-verb"
	// Busy means that too many orders are under way: try again.
	Busy Code = "busy"
	// NotReached means that the state was not reached in time; what was done so far stays done.
	NotReached Code = "not-reached"
	// NoDevice means that the guest has no such card, disk or module.
	NoDevice Code = "no-device"
	// Refused means that the guest's kernel said no.
	Refused Code = "refused"
)

// Pong is the answer to Ping.
type Pong struct {
	BootID string `json:"boot_id"`
}

// CPUs is how many shall be, or are, online.
type CPUs struct {
	Online int `json:"online"`
}

// Memory is how many bytes shall be, or are, in the kernel's hands: MemTotal of /proc/meminfo. It is what the VM has less
// what the kernel kept for itself at boot, so a growth of the VM by n bytes is a growth of it by n.
type Memory struct {
	Bytes uint64 `json:"bytes"`
}

// NICs names two cards by their MAC addresses.
type NICs struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// Capabilities are names as in model.Guest.
type Capabilities struct {
	Names []string `json:"names"`
}

// Hook names a program in the guest's own folder of hooks.
type Hook struct {
	Name string `json:"name"`
}

// DiskQuery asks for disks with a serial number, under any model or, if Driver is not empty, under that driver of the
// guest. Whoever gives a Driver waits for it to appear.
type DiskQuery struct {
	Serial string `json:"serial,omitempty"`
	Driver string `json:"driver,omitempty"`
}

// ParseRequest reads a line. The ID is returned even with an error, if there was one to answer to.
func ParseRequest(line []byte) (Request, error) {
	var r Request
	if err := json.Unmarshal(line, &r); err != nil {
		return Request{}, fmt.Errorf("parse request: %w", err)
	}
	switch {
	case r.ID == "":
		return Request{}, errors.New("parse request: it has no id")
	case len(r.ID) > MaxID:
		return Request{}, fmt.Errorf("parse request: its id is longer than %d bytes", MaxID)
	case r.Verb == "":
		return r, errors.New("parse request: it has no verb")
	case r.Wait < 0 || r.Wait > MaxWait.Milliseconds():
		return r, fmt.Errorf("parse request: wait_ms is %d, at most %d", r.Wait, MaxWait.Milliseconds())
	}
	return r, nil
}

// ParseResponse reads a line.
func ParseResponse(line []byte) (Response, error) {
	var r Response
	if err := json.Unmarshal(line, &r); err != nil {
		return Response{}, fmt.Errorf("parse response: %w", err)
	}
	if r.ID == "" || len(r.ID) > MaxID {
		return Response{}, errors.New("parse response: no id that could be ours")
	}
	if (r.Result == nil) == (r.Error == nil) {
		return Response{}, errors.New("parse response: want a result or an error")
	}
	return r, nil
}

// Line encodes a Request or Response, newline included.
func Line(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	if len(b) >= MaxLine {
		return nil, fmt.Errorf("message of %d bytes, at most %d", len(b), MaxLine-1)
	}
	return append(b, '\n'), nil
}

// Lines cuts a stream into lines. The zero value is at the start of one.
type Lines struct {
	rest []byte
	skip bool // until the next newline: the line got too long
}

// Feed takes what was read and calls each with every whole line, without its newline, which is only valid until each
// returns. Empty lines and lines longer than MaxLine are dropped.
func (l *Lines) Feed(b []byte, each func(line []byte)) {
	for len(b) > 0 {
		i := bytes.IndexByte(b, '\n')
		part := b
		if i >= 0 {
			part, b = b[:i], b[i+1:]
		} else {
			b = nil
		}
		if !l.skip && len(l.rest)+len(part) < MaxLine {
			l.rest = append(l.rest, part...)
		} else {
			l.skip = true
		}
		if i < 0 {
			return
		}
		if line := bytes.TrimSpace(l.rest); !l.skip && len(line) > 0 {
			each(line)
		}
		l.rest, l.skip = l.rest[:0], false
	}
}
