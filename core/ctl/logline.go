package ctl

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/ratchetos/ratchet/core/api/apipb"
)

// logLine writes one line of a plugin's log for people. Plugins log JSON; what is not JSON,
// as the trace of a panic, is shown as it is, and so is everything when raw is asked for.
func logLine(l *apipb.LogLine, raw bool) string {
	if raw {
		return clean(l.GetText())
	}
	text := l.GetText()
	if pretty, ok := record(text); ok {
		text = pretty
	}
	return time.Unix(0, l.GetUnixNs()).UTC().Format("2006-01-02T15:04:05.000Z") + " " + clean(text)
}

// record turns a line of slog's JSON handler into "LEVEL message key=value …" in the order
// in which it was written. The time is left out: core has stamped the line.
func record(text string) (string, bool) {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return "", false
	}
	var level, message, rest string
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return "", false
		}
		var value any
		if err := d.Decode(&value); err != nil {
			return "", false
		}
		switch key {
		case "time":
		case "level":
			level = fmt.Sprintf("%-5v ", value)
		case "msg":
			message = fmt.Sprint(value)
		default:
			rest += fmt.Sprintf(" %s=%s", key, word(value))
		}
	}
	return level + message + rest, message != ""
}

// word quotes a value that would not read as one word.
func word(v any) string {
	switch v := v.(type) {
	case string:
		if v == "" || strings.ContainsAny(v, " =\"\n\t") {
			return strconv.Quote(v)
		}
		return v
	case map[string]any, []any:
		text, _ := json.Marshal(v) // came out of JSON
		return string(text)
	}
	return fmt.Sprint(v)
}
