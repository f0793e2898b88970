package exports

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// UUID is the identity of a volume.
type UUID [16]byte

// String is the usual form, in lower case.
func (u UUID) String() string {
	s := hex.EncodeToString(u[:])
	return strings.Join([]string{s[:8], s[8:12], s[12:16], s[16:20], s[20:]}, "-")
}

// ParseUUID reads the usual form.
func ParseUUID(s string) (u UUID, err error) {
	plain := strings.ReplaceAll(s, "-", "")
	b, err := hex.DecodeString(plain)
	if err != nil || len(b) != len(u) || len(s) != 36 && len(s) != 32 {
		return u, fmt.Errorf("%q is not a UUID: write 32 hex digits, as 6f1c3a52-0a55-4f60-9f6f-0123456789ab", s)
	}
	copy(u[:], b)
	if u == (UUID{}) {
		return u, fmt.Errorf("the UUID of zeroes names nothing")
	}
	return u, nil
}

// Place is where a volume lives: two volumes are never at one place, and a volume that moves to another box keeps it.
// The store's address is left out on purpose: a service that gets a new name holds the same volumes.
type Place struct {
	Bucket string // or the directory of a store that is one
	Prefix string
	Volume string
}

// VolumeUUID derives the identity of the volume at a place, as a UUID of version 8 (RFC 9562: made by the application).
func VolumeUUID(p Place) (u UUID) {
	h := sha256.New()
	for _, s := range []string{"ratchet volume", p.Bucket, strings.Trim(p.Prefix, "/"), p.Volume} {
		fmt.Fprintf(h, "%d:%s", len(s), s) // with lengths: "a"+"bc" is not "ab"+"c"
	}
	copy(u[:], h.Sum(nil))
	u[6] = u[6]&0x0f | 0x80
	u[8] = u[8]&0x3f | 0x80
	return u
}

// naaPrefix is what LIO begins a designator with: NAA 6 and the company id 001405.
const naaPrefix = "6001405"

// WWN is the SCSI identity that LIO derives from the unit serial number, for which we give it the UUID: it fills the
// designator up with the serial's hex digits.
func (u UUID) WWN() string { return "naa." + naaPrefix + hex.EncodeToString(u[:])[:32-len(naaPrefix)] }

// Serial is the serial number of an NVMe subsystem, which has 20 characters at most.
func (u UUID) Serial() string { return strings.ToUpper(hex.EncodeToString(u[:])[:20]) }
