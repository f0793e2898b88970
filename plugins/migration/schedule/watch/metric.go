package watch

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// Metric selects series of a page: those of the name that have all the labels.
type Metric struct {
	Name   string
	Labels map[string]string
}

// maxPage bounds a page of metrics.
const maxPage = 8 << 20

// ErrNoSeries means that a page has no series of the metric.
var ErrNoSeries = errors.New("the page has no such metric")

// ParseMetric reads a metric as written on a page: name{label="value",…}.
func ParseMetric(text string) (Metric, error) {
	name, labels, rest, err := parseSeries(strings.TrimSpace(text))
	switch {
	case err != nil:
		return Metric{}, err
	case strings.TrimSpace(rest) != "":
		return Metric{}, fmt.Errorf("%.60q after the metric", rest)
	}
	return Metric{name, labels}, nil
}

// Counter says whether values only grow, by the convention for names.
func (m Metric) Counter() bool { return strings.HasSuffix(m.Name, "_total") }

// Read returns the sum of all series that match.
func (m Metric) Read(page io.Reader) (sum float64, err error) {
	s := bufio.NewScanner(io.LimitReader(page, maxPage))
	s.Buffer(make([]byte, 0, maxLine), 16*maxLine)
	found := false
	for s.Scan() {
		line := strings.TrimSpace(s.Text())
		if !strings.HasPrefix(line, m.Name) { // comments too
			continue
		}
		name, labels, rest, err := parseSeries(line)
		if err != nil {
			return 0, fmt.Errorf("line %.80q: %w", line, err)
		}
		if name != m.Name || !m.matches(labels) {
			continue
		}
		fields := strings.Fields(rest)
		if len(fields) == 0 {
			return 0, fmt.Errorf("line %.80q: no value", line)
		}
		v, err := strconv.ParseFloat(fields[0], 64)
		if err != nil {
			return 0, fmt.Errorf("line %.80q: value: %w", line, err)
		}
		if math.IsNaN(v) || math.IsInf(v, 0) {
			continue // what is not known is not counted
		}
		sum += v
		found = true
	}
	if err := s.Err(); err != nil {
		return 0, fmt.Errorf("read the page: %w", err)
	}
	if !found {
		return 0, ErrNoSeries
	}
	return sum, nil
}

func (m Metric) matches(labels map[string]string) bool {
	for name, want := range m.Labels {
		if labels[name] != want {
			return false
		}
	}
	return true
}

// parseSeries cuts name{label="value",…} off a line.
func parseSeries(line string) (name string, labels map[string]string, rest string, err error) {
	end := strings.IndexAny(line, "{ \t")
	if end < 0 {
		end = len(line)
	}
	if name, rest = line[:end], line[end:]; !validName(name) {
		return "", nil, "", fmt.Errorf("%.60q is not the name of a metric", name)
	}
	if !strings.HasPrefix(rest, "{") {
		return name, nil, rest, nil
	}
	labels, rest, err = parseLabels(rest[1:])
	return name, labels, rest, err
}

func parseLabels(text string) (labels map[string]string, rest string, err error) {
	labels = make(map[string]string)
	for {
		text = strings.TrimLeft(text, " \t,")
		if strings.HasPrefix(text, "}") {
			return labels, text[1:], nil
		}
		name, after, ok := strings.Cut(text, "=")
		after = strings.TrimLeft(after, " \t")
		if name = strings.TrimSpace(name); !ok || !validName(name) || !strings.HasPrefix(after, `"`) {
			return nil, "", fmt.Errorf("labels: %.40q is not NAME=\"VALUE\"", text)
		}
		value, after, err := parseValue(after[1:])
		if err != nil {
			return nil, "", err
		}
		labels[name], text = value, after
	}
}

// parseValue reads up to the closing quote. Backslash escapes itself, the quote and n.
func parseValue(text string) (value, rest string, err error) {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case '"':
			return b.String(), text[i+1:], nil
		case '\\':
			if i++; i == len(text) {
				continue
			}
			if text[i] == 'n' {
				b.WriteByte('\n')
			} else {
				b.WriteByte(text[i])
			}
		default:
			b.WriteByte(c)
		}
	}
	return "", "", errors.New("labels: a value without closing quote")
}

func validName(name string) bool {
	for i, c := range name {
		if c != '_' && c != ':' && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return name != ""
}
