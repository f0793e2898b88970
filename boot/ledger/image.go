package ledger

import (
	"encoding/hex"
	"fmt"
	"strconv"
)

// SlotTarget is the target of an attempt on an image slot, "A" or "B".
func SlotTarget(slot string) string { return "image:" + slot }

// OfImage is the Content of an image slot: the digest of the UKI, and its security version as an update's manifest
// says it. Read back, only the digest can be compared; the version is as true as the chain that the intent is in.
func OfImage(d Digest, version uint64) Content {
	c := OfDigest(d)
	if c.Strength != StrengthAbsent {
		c.Version = strconv.FormatUint(version, 10)
	}
	return c
}

// SecurityVersion is that of an image slot's content, 0 when there is none.
func (c Content) SecurityVersion() uint64 {
	v, err := strconv.ParseUint(c.Version, 10, 6)
	if err != nil {
		return 0
	}
	return v
}

// Image finds a slot; a slot that was never read, or read as bad, has no digest.
func (l *Ledger) Image(slot string) Image {
	for _, i := range l.Images {
		if i.Slot == slot {
			return i
		}
	}
	return Image{Slot: slot}
}

// MarshalText implements encoding.TextMarshaler: JSON has digests in hex.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Digest) UnmarshalText(b []byte) error {
	if hex.DecodedLen(len(b)) != len(d) {
		return fmt.Errorf("digest of %d letters, want %d", len(b), hex.EncodedLen(len(d)))
	}
	_, err := hex.Decode(d[:], b)
	return err
}
