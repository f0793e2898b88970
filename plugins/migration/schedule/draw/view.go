package draw

import "time"

// View is what is drawn. Times of links are in slots of Step from From on; loads are parts of the capacity, negative ones not known.
type View struct {
	Now   time.Time `json:"now"`
	Links []Link    `json:"links"`
	Slots []Slot    `json:"slots"`
}

// Unit is what a resource is counted in.
type Unit string

// Units.
const (
	BytesPerSecond Unit = "bytes/s"
	Processors     Unit = "processors"
	Bytes          Unit = "bytes"
)

// Link with what is known of its load; or the processors or the memory of a host.
type Link struct {
	Name     string  `json:"name"`
	Unit     Unit    `json:"unit"`
	Capacity float64 `json:"capacity"` // 0 is not known yet
	Budget   float64 `json:"budget"`
	// Load is what others use now; nil is not known.
	Load *float64 `json:"load,omitempty"`

	Samples int           `json:"samples"` // slots that were measured
	Problem string        `json:"problem,omitempty"`
	Method  string        `json:"method"` // of its forecast, or why there is none
	From    time.Time     `json:"from"`
	Step    time.Duration `json:"step"`
	// Past is what was measured, up to now; Low, Mid and High go on from there.
	Past []float64 `json:"past,omitempty"`
	Low  []float64 `json:"low,omitempty"`
	Mid  []float64 `json:"mid,omitempty"`
	High []float64 `json:"high,omitempty"`
}

// Slot of a move.
type Slot struct {
	ID    string    `json:"id"`
	VM    string    `json:"vm"`
	State string    `json:"state"`
	Links []string  `json:"links,omitempty"`
	Start time.Time `json:"start,omitzero"`
	End   time.Time `json:"end,omitzero"`
	Rate  float64   `json:"rate,omitempty"` // bytes a second
	Why   []string  `json:"why"`
}
