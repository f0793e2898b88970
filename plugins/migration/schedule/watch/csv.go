package watch

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"
)

// Sample is a value at a time.
type Sample struct {
	At    time.Time
	Value float64
}

const (
	// maxSamples bounds a file: a year of minutes.
	maxSamples = 600_000
	maxLine    = 4096
)

// ReadCSV reads lines of a time and a value. Times are RFC 3339, "2006-01-02 15:04:05" in UTC, or seconds since 1970. A first line
// that is not a sample is a header.
func ReadCSV(r io.Reader) (list []Sample, err error) {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 0, maxLine), maxLine)
	for n := 1; s.Scan(); n++ {
		line := strings.TrimSpace(s.Text())
		if line == "" {
			continue
		}
		sample, err := parseLine(line)
		switch {
		case err != nil && n == 1:
			continue
		case err != nil:
			return nil, fmt.Errorf("line %d: %w", n, err)
		case len(list) == maxSamples:
			return nil, fmt.Errorf("line %d: more than %d samples: leave out the older ones", n, maxSamples)
		}
		list = append(list, sample)
	}
	if err := s.Err(); err != nil {
		return nil, fmt.Errorf("after %d samples: %w", len(list), err)
	}
	return list, nil
}

func parseLine(line string) (s Sample, err error) {
	at, value, ok := strings.Cut(line, ",")
	if !ok {
		return s, fmt.Errorf("no comma: a line is TIME,VALUE")
	}
	value, _, _ = strings.Cut(value, ",") // more columns are allowed
	if s.Value, err = strconv.ParseFloat(strings.Trim(strings.TrimSpace(value), `"`), 64); err != nil || math.IsNaN(s.Value) || math.IsInf(s.Value, 0) {
		return s, fmt.Errorf("%.40q is not a number", value)
	}
	s.At, err = parseTime(strings.Trim(strings.TrimSpace(at), `"`))
	return s, err
}

func parseTime(text string) (time.Time, error) {
	if seconds, err := strconv.ParseFloat(text, 64); err == nil {
		if seconds < 0 || seconds >= 1<<33 {
			return time.Time{}, fmt.Errorf("%.40q is not a time in seconds since 1970", text)
		}
		return time.Unix(0, int64(seconds*1e9)).UTC(), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02 15:04:05"} {
		if at, err := time.Parse(layout, text); err == nil && at.Year() >= 1970 && at.Year() < 2200 {
			return at.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("%.40q is not a time, as 2026-03-02T20:00:00Z", text)
}
