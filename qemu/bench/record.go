package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/google/renameio/v2"
)

// Figure is one measured value.
type Figure struct {
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
	Goal  string  `json:"goal,omitempty"` // as the issue states it: "<= 0.60"
	Peer  string  `json:"peer,omitempty"` // what it was held against
	N     int     `json:"n"`              // runs behind the median
	// Commit is what was measured.
	Commit string `json:"commit"`
}

// Recorder prints figures as they come and keeps them for the file.
type Recorder struct {
	Out     io.Writer
	Commit  string
	figures map[string]Figure
}

// Record prints and keeps one figure under "area.metric".
func (r *Recorder) Record(name string, f Figure) {
	f.Commit = r.Commit
	f.N = max(f.N, 1)
	if r.figures == nil {
		r.figures = make(map[string]Figure)
	}
	r.figures[name] = f
	var notes []string
	if f.Goal != "" {
		notes = append(notes, "goal "+f.Goal)
	}
	if f.Peer != "" {
		notes = append(notes, "peer "+f.Peer)
	}
	tail := ""
	if len(notes) > 0 {
		tail = " (" + strings.Join(notes, ", ") + ")"
	}
	fmt.Fprintf(r.Out, "bench %s %s %s%s\n", name, strconv.FormatFloat(f.Value, 'f', decimals(f.Value), 64), f.Unit, tail)
}

// Save merges the figures into the file, so that areas measured apart stand side by side.
func (r *Recorder) Save(path string) error {
	all := make(map[string]Figure)
	if old, err := os.ReadFile(path); err == nil {
		if err := json.Unmarshal(old, &all); err != nil {
			return fmt.Errorf("read %s: %w (remove it to start anew)", path, err)
		}
	}
	maps.Copy(all, r.figures)
	b, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return fmt.Errorf("encode figures: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("save figures: %w", err)
	}
	return renameio.WriteFile(path, append(b, '\n'), 0o644)
}

// Median of the values; 0 for none.
func Median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	v := slices.Sorted(slices.Values(values))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

// decimals keeps three significant digits without an exponent.
func decimals(v float64) int {
	switch {
	case v >= 100 || v == float64(int64(v)):
		return 0
	case v >= 10:
		return 1
	default:
		return 3
	}
}
