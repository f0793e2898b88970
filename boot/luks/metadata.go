package luks

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// Cipher is the one that is written and accepted, for data and keyslots.
const Cipher = "aes-xts-plain64"

// The rest of the one scheme.
const (
	keySize    = 64
	stripes    = 4000
	sectorSize = 4096

	minIterations = 1000       // the format's least
	maxIterations = 10_000_000 // a minute on a slow box; more is not a passphrase but an attack
	maxObjects    = 32         // keyslots, tokens, segments, digests each (specification 3)
)

// metadata is the JSON part. Objects of other tools are kept as they were read.
type metadata struct {
	Keyslots map[string]json.RawMessage `json:"keyslots"`
	Tokens   map[string]json.RawMessage `json:"tokens"`
	Segments map[string]json.RawMessage `json:"segments"`
	Digests  map[string]json.RawMessage `json:"digests"`
	Config   config                     `json:"config"`
}

type config struct {
	JSONSize     uint64          `json:"json_size,string"`
	KeyslotsSize uint64          `json:"keyslots_size,string"`
	Flags        json.RawMessage `json:"flags,omitempty"`
	Requirements json.RawMessage `json:"requirements,omitempty"`
}

type keyslot struct {
	Type     string          `json:"type"`
	KeySize  int             `json:"key_size"`
	AF       splitter        `json:"af"`
	Area     area            `json:"area"`
	KDF      kdf             `json:"kdf"`
	Priority json.RawMessage `json:"priority,omitempty"`
}

type splitter struct {
	Type    string `json:"type"`
	Stripes int    `json:"stripes"`
	Hash    string `json:"hash"`
}

type area struct {
	Type       string `json:"type"`
	Offset     uint64 `json:"offset,string"`
	Size       uint64 `json:"size,string"`
	Encryption string `json:"encryption"`
	KeySize    int    `json:"key_size"`
}

type kdf struct {
	Type       string `json:"type"`
	Hash       string `json:"hash"`
	Iterations int    `json:"iterations"`
	Salt       []byte `json:"salt"`
}

type segment struct {
	Type       string          `json:"type"`
	Offset     uint64          `json:"offset,string"`
	Size       string          `json:"size"`
	IVTweak    string          `json:"iv_tweak"`
	Encryption string          `json:"encryption"`
	SectorSize int             `json:"sector_size"`
	Integrity  json.RawMessage `json:"integrity,omitempty"`
	Flags      json.RawMessage `json:"flags,omitempty"`
}

type digest struct {
	Type       string   `json:"type"`
	Keyslots   []string `json:"keyslots"`
	Segments   []string `json:"segments"`
	Hash       string   `json:"hash"`
	Iterations int      `json:"iterations"`
	Salt       []byte   `json:"salt"`
	Digest     []byte   `json:"digest"`
}

// parseMetadata reads the JSON of a copy of the given size and finds the one data segment.
func parseMetadata(b []byte, size uint64) (m metadata, s segment, err error) {
	b, _, _ = bytes.Cut(b, []byte{0})
	if err := json.Unmarshal(b, &m); err != nil {
		return m, s, fmt.Errorf("read LUKS2 metadata: %w", err)
	}
	for _, objects := range []map[string]json.RawMessage{m.Keyslots, m.Tokens, m.Segments, m.Digests} {
		if len(objects) > maxObjects {
			return m, s, fmt.Errorf("read LUKS2 metadata: %d objects of one kind, at most %d", len(objects), maxObjects)
		}
	}
	switch c := m.Config; {
	case len(c.Requirements) > 0:
		return m, s, fmt.Errorf("read LUKS2 metadata: it requires %.60s, which is not supported", c.Requirements)
	case c.JSONSize != size-binarySize || c.KeyslotsSize%4096 != 0 || c.KeyslotsSize > 128<<20:
		return m, s, fmt.Errorf("read LUKS2 metadata: sizes %d and %d do not fit the header", c.JSONSize, c.KeyslotsSize)
	}
	if len(m.Segments) != 1 {
		return m, s, fmt.Errorf("read LUKS2 metadata: %d data segments, only one is supported", len(m.Segments))
	}
	for _, raw := range m.Segments {
		if err := json.Unmarshal(raw, &s); err != nil {
			return m, s, fmt.Errorf("read LUKS2 data segment: %w", err)
		}
	}
	return m, s, s.check(2*size + m.Config.KeyslotsSize)
}

// check refuses any data segment but the plain one; end is where the keyslots end.
func (s segment) check(end uint64) error {
	switch {
	case s.Type != "crypt" || s.Encryption != Cipher || len(s.Integrity) > 0 || len(s.Flags) > 0:
		return fmt.Errorf("read LUKS2 data segment: type %q with %q: only crypt with %s is accepted", s.Type, s.Encryption, Cipher)
	case s.IVTweak != "0" || s.Size != "dynamic":
		return fmt.Errorf("read LUKS2 data segment: a part of a volume is not supported")
	case s.SectorSize != 512 && s.SectorSize != sectorSize:
		return fmt.Errorf("read LUKS2 data segment: sectors of %d bytes", s.SectorSize)
	case s.Offset < end || s.Offset%sectorSize != 0 || s.Offset > 1<<40:
		return fmt.Errorf("read LUKS2 data segment: it starts at %d, inside the header", s.Offset)
	}
	return nil
}

// errForeign marks a keyslot that is whole but not of the kind that is opened here.
var errForeign = fmt.Errorf("keyslot of another kind")

// slot reads a keyslot and holds it to the one scheme.
func (m metadata) slot(id string, size uint64) (keyslot, error) {
	var k keyslot
	if err := json.Unmarshal(m.Keyslots[id], &k); err != nil {
		return k, fmt.Errorf("read LUKS2 keyslot %s: %w", id, err)
	}
	a := k.Area
	switch {
	case k.Type != "luks2" || k.KDF.Type != "pbkdf2" || k.KDF.Hash != "sha256" || k.AF.Hash != "sha256",
		k.KeySize != keySize || a.KeySize != keySize || a.Encryption != Cipher,
		k.AF.Type != "luks1" || k.AF.Stripes != stripes || a.Type != "raw":
		return k, errForeign
	case k.KDF.Iterations < minIterations || k.KDF.Iterations > maxIterations:
		return k, fmt.Errorf("read LUKS2 keyslot %s: %d iterations", id, k.KDF.Iterations)
	case a.Offset < 2*size || a.Offset > 1<<40 || a.Size < keySize*stripes || a.Size > 1<<20 || a.Offset+a.Size > 2*size+m.Config.KeyslotsSize:
		return k, fmt.Errorf("read LUKS2 keyslot %s: its area is outside the header", id)
	}
	return k, nil
}

// digestOf finds the digest that a keyslot's key is compared with.
func (m metadata) digestOf(slot string) (id string, d digest, err error) {
	for _, id := range sorted(m.Digests) {
		var d digest
		if err := json.Unmarshal(m.Digests[id], &d); err != nil {
			return "", d, fmt.Errorf("read LUKS2 digest %s: %w", id, err)
		}
		if !slices.Contains(d.Keyslots, slot) {
			continue
		}
		if d.Type != "pbkdf2" || d.Hash != "sha256" || d.Iterations < minIterations || d.Iterations > maxIterations || len(d.Digest) != 32 {
			return "", d, fmt.Errorf("read LUKS2 digest %s: only pbkdf2 with sha256 is supported", id)
		}
		return id, d, nil
	}
	return "", d, fmt.Errorf("read LUKS2 keyslot %s: no digest goes with it", slot)
}

// token finds the first token of a type.
func (m metadata) token(kind string) (id string, slots []string, raw json.RawMessage) {
	for _, id := range sorted(m.Tokens) {
		var t struct {
			Type     string   `json:"type"`
			Keyslots []string `json:"keyslots"`
		}
		if json.Unmarshal(m.Tokens[id], &t) == nil && t.Type == kind {
			return id, t.Keyslots, m.Tokens[id]
		}
	}
	return "", nil, nil
}

// free is the lowest number that no object has.
func free(objects map[string]json.RawMessage) (string, error) {
	for n := range maxObjects {
		if id := fmt.Sprint(n); objects[id] == nil {
			return id, nil
		}
	}
	return "", fmt.Errorf("write LUKS2 metadata: all %d numbers are taken", maxObjects)
}

// put stores a value under its number.
func put(objects *map[string]json.RawMessage, id string, value any) error {
	raw, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("write LUKS2 metadata: %w", err)
	}
	if *objects == nil {
		*objects = map[string]json.RawMessage{}
	}
	(*objects)[id] = raw
	return nil
}

// clone copies what a change replaces.
func (m metadata) clone() metadata {
	m.Keyslots, m.Tokens, m.Segments, m.Digests = maps.Clone(m.Keyslots), maps.Clone(m.Tokens), maps.Clone(m.Segments), maps.Clone(m.Digests)
	return m
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
