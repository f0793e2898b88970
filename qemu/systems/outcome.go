package systems

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Status of a row.
type Status string

const (
	// OK means that the test ran, passed, and said what it saw.
	OK Status = "ok"
	// Fail means that it exists and did anything else.
	Fail Status = "FAIL"
	// NotBuilt means that there is no test.
	NotBuilt Status = "not built"
)

// Outcome is a row of the table.
type Outcome struct {
	System  System
	Status  Status
	Elapsed time.Duration
	// Seen is what the test reports it saw; for a failure, the first thing that went wrong.
	Seen string
	// Attacks are the lines of a table within the row, "row: case: verdict", sorted by row in the order of their first
	// line. A failure has those that came before it.
	Attacks []string
	// Log is the test's whole output.
	Log string
}

func (o Outcome) String() string {
	return fmt.Sprintf("system %s %s %.1f %s", o.System.Name, o.Status, o.Elapsed.Seconds(), o.Seen)
}

// These start the log lines that a test wants in the table: in its own row, and in lines above it.
const (
	seenPrefix   = "seen: "
	attackPrefix = "attack: "
)

// event is a line of test2json's output (go doc test2json).
type event struct {
	Action  string
	Test    string
	Output  string
	Elapsed float64 // seconds
}

// judge reads the events of a run of one system's test. A run without a "pass" for that very test has failed,
// whatever else it says: the process may have crashed, timed out, or run something else. Log is what the test
// printed, line by line as it came.
func judge(s System, events io.Reader) Outcome {
	o := Outcome{System: s, Status: Fail}
	var log strings.Builder
	var seen, wrong []string
	var passed, skipped bool
	lines := bufio.NewScanner(events)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			log.WriteString(lines.Text() + "\n") // not from the test: the tool itself complains
			continue
		}
		log.WriteString(e.Output)
		own := e.Test == s.Test()
		within := own || strings.HasPrefix(e.Test, s.Test()+"/")
		switch e.Action {
		case "pass":
			passed = passed || own
		case "skip":
			skipped = skipped || within
		}
		if own && e.Elapsed > 0 {
			o.Elapsed = time.Duration(e.Elapsed * float64(time.Second))
		}
		if text, ok := logged(e.Output); ok && within {
			if s, ok := strings.CutPrefix(text, seenPrefix); ok {
				seen = append(seen, s)
			} else if s, ok := strings.CutPrefix(text, attackPrefix); ok {
				o.Attacks = append(o.Attacks, s)
			} else {
				wrong = append(wrong, text)
			}
		}
	}
	o.Log = log.String()
	byRow(o.Attacks)
	switch {
	case lines.Err() != nil:
		o.Seen = "reading the test's output: " + lines.Err().Error()
	case skipped:
		o.Seen = "a part was skipped; a system that cannot be shown is not shown"
	case passed && len(seen) == 0:
		o.Seen = `passed, but logged no line "` + seenPrefix + `…"`
	case passed:
		o.Status, o.Seen = OK, strings.Join(seen, "; ")
	case len(wrong) > 0:
		// The last thing a test logs before it stops is most often why it stopped.
		o.Seen = wrong[len(wrong)-1]
	default:
		o.Seen = lastWords(o.Log)
	}
	return o
}

// byRow brings the lines of a row together: cases run side by side and end in any order.
func byRow(lines []string) {
	first := map[string]int{}
	row := func(line string) int {
		name, _, _ := strings.Cut(line, ": ")
		if _, ok := first[name]; !ok {
			first[name] = len(first)
		}
		return first[name]
	}
	for _, l := range lines {
		row(l)
	}
	slices.SortStableFunc(lines, func(a, b string) int { return cmp.Compare(row(a), row(b)) })
}

// logged returns the text of a line that t.Log or t.Error wrote: "    file_test.go:12: text".
func logged(output string) (string, bool) {
	line := strings.TrimSpace(output)
	place, text, ok := strings.Cut(line, ": ")
	if !ok || !strings.Contains(place, "_test.go:") {
		return "", false
	}
	return text, true
}

// lastWords says why a test ended that logged nothing: the panic, above its stacks, or else the last line.
func lastWords(log string) string {
	last := "the test printed nothing"
	for line := range strings.Lines(log) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "panic: ") {
			return line
		}
		if line != "" {
			last = line
		}
	}
	return last
}
