package manifest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"github.com/ratchetos/ratchet/plugins/internal/objstore"
)

const (
	// MaxDeltas is the number of deltas after which a head must name a new full manifest.
	MaxDeltas = 64
	maxHead   = 64 << 10
)

// Head is the root of a volume in the store. It is JSON, so that an operator can read it.
type Head struct {
	Version  int    `json:"version"`
	Features uint64 `json:"features"` // incompatible ones; none so far
	Volume   string `json:"volume"`
	Size     int64  `json:"size"`
	// Epoch grows with every takeover. A writer that meets a higher one than its own is fenced.
	Epoch uint64 `json:"epoch"`
	// Owner is the UUID of the disk whose gateway took over, Session names that opening of it.
	Owner   string `json:"owner"`
	Session string `json:"session"`
	// Seq is the log sequence number up to which the store holds the volume.
	Seq    uint64   `json:"seq"`
	Full   string   `json:"full,omitempty"`
	Deltas []string `json:"deltas,omitempty"`
	Time   string   `json:"time"` // RFC 3339, for people
}

// Encode returns the head's object.
func (h *Head) Encode() ([]byte, error) {
	p, err := json.MarshalIndent(h, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode head: %w", err)
	}
	return append(p, '\n'), nil
}

// DecodeHead reads what Encode wrote.
func DecodeHead(p []byte) (*Head, error) {
	if len(p) > maxHead {
		return nil, fmt.Errorf("decode head: %d bytes: %w", len(p), ErrInvalid)
	}
	// The version comes first: a newer head may well have fields that this one does not know.
	var v struct {
		Version  int    `json:"version"`
		Features uint64 `json:"features"`
	}
	if err := json.Unmarshal(p, &v); err != nil {
		return nil, fmt.Errorf("decode head: %w: %w", ErrInvalid, err)
	}
	if v.Version != version || v.Features != 0 {
		return nil, fmt.Errorf("decode head: version %d, features %#x: %w", v.Version, v.Features, ErrTooNew)
	}
	h := new(Head)
	dec := json.NewDecoder(bytes.NewReader(p))
	dec.DisallowUnknownFields()
	if err := dec.Decode(h); err != nil {
		return nil, fmt.Errorf("decode head: %w: %w", ErrInvalid, err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, fmt.Errorf("decode head: text after it: %w", ErrInvalid)
	}
	if h.Size <= 0 || h.Size%BlockSize != 0 || h.Epoch == 0 || h.Owner == "" || h.Session == "" || len(h.Deltas) > MaxDeltas {
		return nil, fmt.Errorf("decode head: field out of range: %w", ErrInvalid)
	}
	keys := h.Deltas
	if h.Full != "" {
		keys = append([]string{h.Full}, keys...)
	}
	for _, k := range keys {
		if err := objstore.CheckKey(k); err != nil {
			return nil, fmt.Errorf("decode head: %w: %w", ErrInvalid, err)
		}
	}
	return h, nil
}

// NewHead returns the head of an empty volume before anyone owns it.
func NewHead(volume string, size int64) *Head {
	return &Head{Version: version, Volume: volume, Size: size}
}
