package manifest

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
)

const (
	// MaxDeltas is the number of deltas that a head may name.
	MaxDeltas = 64
	maxHead   = 64 << 10
)

// Features of a head that an older version must not overlook.
const (
	// FeatureSealed means that frames are encrypted; Key says with which key.
	FeatureSealed = 1 << 0

	knownFeatures = FeatureSealed
)

// Head is the one mutable object of a volume in the store. It is JSON, so that an operator can read it.
type Head struct {
	Version  int    `json:"version"`
	Features uint64 `json:"features"` // incompatible ones
	Volume   string `json:"volume"`
	// ID is made up when the volume is created; keys of frames are derived from it.
	ID   string `json:"id"`
	Size int64  `json:"size"`
	// Account owns the volume. Only the provider assigns it; 0 while there is none.
	Account uint32 `json:"account,omitempty"`
	// Key tells which key the frames are sealed with.
	Key string `json:"key,omitempty"`
	// Epoch grows with every takeover. A writer that meets a higher one than its own is fenced.
	Epoch uint64 `json:"epoch"`
	// Owner is the UUID of the disk whose gateway took over, Session names that opening of it.
	Owner   string `json:"owner"`
	Session string `json:"session"`
	// Seq is the log sequence number up to which the store holds the volume.
	Seq uint64 `json:"seq"`
	// Next is above the number of every object that was ever committed.
	Next   uint32   `json:"next"`
	Root   string   `json:"root,omitempty"`
	Deltas []string `json:"deltas,omitempty"`
	Time   string   `json:"time"` // RFC 3339, for people
}

// NewHead returns the head of an empty volume before anyone owns it.
func NewHead(volume string, id Tag, size int64) *Head {
	return &Head{Version: version, Volume: volume, ID: hex.EncodeToString(id[:]), Size: size}
}

// Tag is the volume's id in binary.
func (h *Head) Tag() Tag {
	var t Tag
	_, _ = hex.Decode(t[:], []byte(h.ID)) // DecodeHead has checked it
	return t
}

// RootID is the root's name, zero when there is none.
func (h *Head) RootID() ID {
	id, _ := ParseID(h.Root) // as above
	return id
}

// DeltaIDs are the names of the deltas in order.
func (h *Head) DeltaIDs() []ID {
	list := make([]ID, len(h.Deltas))
	for i, s := range h.Deltas {
		list[i], _ = ParseID(s) // as above
	}
	return list
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
	if v.Version != version || v.Features&^knownFeatures != 0 {
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
	if err := h.check(); err != nil {
		return nil, fmt.Errorf("decode head: %w", err)
	}
	return h, nil
}

func (h *Head) check() error {
	bad := func(field string) error { return fmt.Errorf("field %s out of range: %w", field, ErrInvalid) }
	id, err := hex.DecodeString(h.ID)
	switch {
	case err != nil || len(id) != len(Tag{}):
		return bad("id")
	case h.Size <= 0 || h.Size%BlockSize != 0 || h.Size > MaxSize:
		return bad("size")
	case h.Epoch == 0 || h.Epoch>>32 != 0:
		return bad("epoch")
	case h.Owner == "" || h.Session == "":
		return bad("owner")
	case (h.Features&FeatureSealed != 0) != (h.Key != ""):
		return bad("key")
	case len(h.Deltas) > MaxDeltas:
		return bad("deltas")
	}
	if h.Root != "" {
		if id, err := ParseID(h.Root); err != nil || id.Kind != KindRoot {
			return bad("root")
		}
	}
	for _, s := range h.Deltas {
		if id, err := ParseID(s); err != nil || id.Kind != KindDelta {
			return bad("deltas")
		}
	}
	return nil
}
