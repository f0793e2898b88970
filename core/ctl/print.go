package ctl

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/goccy/go-yaml"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// Print is for commands of plugins: value as JSON or YAML, or the table, as -o says.
func (a *App) Print(value any, columns []string, rows [][]string) error {
	return a.show(value, func(w io.Writer) {
		Row(w, cells(columns)...)
		for _, r := range rows {
			Row(w, cells(r)...)
		}
	})
}

func cells(texts []string) []any {
	out := make([]any, len(texts))
	for i, t := range texts {
		out[i] = t
	}
	return out
}

// show writes v as JSON or YAML when the -o flag says so; otherwise it calls table. Messages
// of the API are written in the protobuf JSON mapping with the names of the .proto file
// (64-bit numbers are strings), any other value as encoding/json does.
func (a *App) show(v any, table func(w io.Writer)) error {
	if a.output == "table" {
		w := tabwriter.NewWriter(a.Out, 0, 8, 2, ' ', 0)
		table(w)
		return w.Flush()
	}
	text, err := encode(v)
	if err != nil {
		return fmt.Errorf("encode output: %w", err)
	}
	if a.output == "yaml" {
		text, err = yaml.JSONToYAML(text)
	} else {
		var b bytes.Buffer
		err = json.Indent(&b, text, "", "  ") // protojson varies its spaces on purpose
		text = append(b.Bytes(), '\n')
	}
	if err != nil {
		return fmt.Errorf("encode output: %w", err)
	}
	_, err = a.Out.Write(text)
	return err
}

func encode(v any) ([]byte, error) {
	if m, ok := v.(proto.Message); ok {
		return protojson.MarshalOptions{UseProtoNames: true, EmitDefaultValues: true}.Marshal(m)
	}
	return json.Marshal(v)
}

// say writes a message for people; scripts do not read it.
func (a *App) say(format string, args ...any) {
	fmt.Fprintf(a.Err, format+"\n", args...)
}

// Row writes the cells of one table row. An empty cell shows as a dash, but not where there is one column: that is text.
func Row(w io.Writer, cells ...any) {
	for i, c := range cells {
		text := fmt.Sprint(c)
		if text == "" && len(cells) > 1 {
			text = "-"
		}
		if i > 0 {
			fmt.Fprint(w, "\t")
		}
		fmt.Fprint(w, clean(text))
	}
	fmt.Fprintln(w)
}

// clean keeps what a plugin or a disk calls itself from steering the terminal.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}

// Bytes writes a size for people: "21M", "1.5G".
func Bytes(n uint64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprint(n)
	}
	f, unit := float64(n)/1024, 0
	for f >= 1024 && unit < len(units)-1 {
		f, unit = f/1024, unit+1
	}
	if f < 10 && f != float64(int(f)) {
		return fmt.Sprintf("%.1f%c", f, units[unit])
	}
	return fmt.Sprintf("%.0f%c", f, units[unit])
}

// ago writes a span in its two largest units: "2h11m", "14s".
func ago(d time.Duration) string {
	d = max(d, 0).Truncate(time.Second)
	day := 24 * time.Hour
	switch {
	case d >= day:
		return fmt.Sprintf("%dd%dh", d/day, d%day/time.Hour)
	case d >= time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	case d >= time.Minute:
		return fmt.Sprintf("%dm%ds", d/time.Minute, d%time.Minute/time.Second)
	}
	return fmt.Sprintf("%ds", d/time.Second)
}
