package qmp

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// MaxLine bounds one message in bytes. The longest reply seen from a VM with many devices is a
// hundredth of it.
const MaxLine = 4 << 20

// message is one line from the server. Exactly one of greeting, event, ok and failed is set.
type message struct {
	greeting *greeting
	event    *Event
	ok       json.RawMessage // the return value of a command
	failed   *Error
	id       uint64
	hasID    bool
}

type greeting struct {
	Version struct {
		QEMU    struct{ Major, Minor, Micro int } `json:"qemu"`
		Package string                            `json:"package"`
	} `json:"version"`
	Capabilities []string `json:"capabilities"`
}

// Event is an asynchronous event.
type Event struct {
	Name string
	Data json.RawMessage // an object, or nil
	Time time.Time       // the server's clock; zero when it has none
}

// Error is a command's refusal by QEMU. The connection is as good as before.
type Error struct {
	Command string
	Class   string
	Desc    string
}

func (e *Error) Error() string {
	return fmt.Sprintf("qemu refused %s: %s", e.Command, e.Desc)
}

// CommandNotFound is the class of the error for a command that this QEMU does not have.
const CommandNotFound = "CommandNotFound"

// parse decodes one line. It takes nothing from the line that it did not check.
func parse(line []byte) (message, error) {
	var raw struct {
		QMP       *greeting                     `json:"QMP"`
		Event     *string                       `json:"event"`
		Data      json.RawMessage               `json:"data"`
		Return    *json.RawMessage              `json:"return"`
		Error     *struct{ Class, Desc string } `json:"error"`
		ID        *uint64                       `json:"id"`
		Timestamp struct {
			Seconds      int64 `json:"seconds"`
			Microseconds int64 `json:"microseconds"`
		} `json:"timestamp"`
	}
	if err := json.Unmarshal(line, &raw); err != nil {
		return message{}, fmt.Errorf("decode QMP message: %w", err)
	}
	var m message
	kinds := 0
	if raw.QMP != nil {
		m.greeting = raw.QMP
		kinds++
	}
	if raw.Event != nil {
		m.event = &Event{Name: *raw.Event, Data: raw.Data}
		// QEMU says -1 when the host's clock cannot be read.
		if t := raw.Timestamp; t.Seconds > 0 && t.Microseconds >= 0 && t.Microseconds < 1e6 {
			m.event.Time = time.Unix(t.Seconds, t.Microseconds*1000).UTC()
		}
		kinds++
	}
	if raw.Return != nil {
		m.ok = *raw.Return
		kinds++
	}
	if raw.Error != nil {
		m.failed = &Error{Class: raw.Error.Class, Desc: raw.Error.Desc}
		kinds++
	}
	if kinds != 1 {
		return message{}, errors.New("decode QMP message: it is not exactly one of greeting, event, return and error")
	}
	if raw.ID != nil {
		m.id, m.hasID = *raw.ID, true
	}
	return m, nil
}

// urgent commands are carried out at once even when QEMU's main loop is held up, for lack of a page that was to come by
// post-copy say.
var urgent = []string{"migrate-pause", "migrate-recover"}

// encode makes the line of a command.
func encode(command string, args any, id uint64, outOfBand bool) ([]byte, error) {
	type common struct {
		Arguments any    `json:"arguments,omitempty"`
		ID        uint64 `json:"id"`
	}
	var v any = struct {
		Execute string `json:"execute"`
		common
	}{command, common{args, id}}
	if outOfBand && slices.Contains(urgent, command) {
		v = struct {
			Execute string `json:"exec-oob"`
			common
		}{command, common{args, id}}
	}
	line, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", command, err)
	}
	return append(line, '\n'), nil
}
