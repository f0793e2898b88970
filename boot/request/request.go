package request

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// MaxText is the longest request in bytes; a serial line in canonical mode takes 4,095.
const MaxText = 2048

const prefix = "ratchet-request-1"

// Kind says what init is to do.
type Kind string

// What can be asked for.
const (
	// Validate releases what can be proven good: the box, or with Device that device.
	Validate Kind = "validate"
	// Recover takes one device as it reads back.
	Recover Kind = "recover"
	// Accept takes the whole box as it is.
	Accept Kind = "accept"
	// Reset forgets keys, data and configuration.
	Reset Kind = "factory-reset"
	// Provision is the one-use token that releases a new box.
	Provision Kind = "provision"
)

// Kinds are all of them, in the order of how much they change.
var Kinds = [...]Kind{Validate, Recover, Accept, Reset, Provision}

// Request is what is signed.
type Request struct {
	Kind   Kind   `json:"kind"`
	Device string `json:"device,omitempty"` // id
	// Box is the Name of the storage root key, or for Provision of the endorsement key, in hex.
	Box string `json:"box"`
	// Counter is the value of C that the request was made for.
	Counter uint64 `json:"counter"`
}

var (
	// ErrMalformed says that a text is no request at all.
	ErrMalformed = errors.New("not a request")
	// ErrSignature says that no owner key of this image has signed it.
	ErrSignature = errors.New("not signed by an owner key of this image")
	// ErrOtherBox says that it was made for another box.
	ErrOtherBox = errors.New("made for another box")
	// ErrUsed says that the counter has moved since it was made: it was carried out, or something else was.
	ErrUsed = errors.New("made for another value of the counter: it was used already, or something else was attempted since")
)

// Check reports what is wrong with a request that nobody has signed yet.
func (r Request) Check() error {
	known := false
	for _, k := range Kinds {
		known = known || r.Kind == k
	}
	name, err := hex.DecodeString(r.Box)
	switch {
	case !known:
		return fmt.Errorf("%w: kind %q", ErrMalformed, r.Kind)
	case r.Kind == Recover && r.Device == "":
		return fmt.Errorf("%w: recover names no device", ErrMalformed)
	case r.Device != "" && r.Kind != Recover && r.Kind != Validate:
		return fmt.Errorf("%w: %s takes no device", ErrMalformed, r.Kind)
	case len(r.Device) > 200 || !printable(r.Device):
		return fmt.Errorf("%w: device %q", ErrMalformed, r.Device)
	case err != nil || len(name) == 0 || len(name) > 66: // a Name is at most that of SHA-512
		return fmt.Errorf("%w: box %q is not a Name in hex", ErrMalformed, r.Box)
	}
	return nil
}

func printable(s string) bool {
	for _, c := range s {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return true
}

// String is the request for people.
func (r Request) String() string {
	if r.Device == "" {
		return string(r.Kind)
	}
	return string(r.Kind) + " " + r.Device
}

// Fits reports whether the request is for this box, whose Name is in hex, at this value of C.
func (r Request) Fits(box string, counter uint64) error {
	switch {
	case box == "" || !strings.EqualFold(r.Box, box):
		return fmt.Errorf("%w (%s)", ErrOtherBox, short(r.Box))
	case r.Counter != counter:
		return fmt.Errorf("%w: it names %d, the box counts %d; sign a new one", ErrUsed, r.Counter, counter)
	}
	return nil
}

func short(name string) string { return name[:min(len(name), 16)] }

// Signed is a request with its signature, which is not verified yet.
type Signed struct {
	Request
	payload, signature []byte
}

// Parse reads a request. Errors wrap ErrMalformed.
func Parse(text string) (Signed, error) {
	if len(text) > MaxText {
		return Signed{}, fmt.Errorf("%w: %d bytes, at most %d", ErrMalformed, len(text), MaxText)
	}
	parts := strings.Split(strings.TrimSpace(text), ".")
	if len(parts) != 3 || parts[0] != prefix {
		return Signed{}, fmt.Errorf("%w: it does not have the form %s.PAYLOAD.SIGNATURE", ErrMalformed, prefix)
	}
	var s Signed
	for i, field := range []*[]byte{&s.payload, &s.signature} {
		b, err := base64.RawURLEncoding.Strict().DecodeString(parts[1+i])
		if err != nil {
			return Signed{}, fmt.Errorf("%w: %w", ErrMalformed, err)
		}
		*field = b
	}
	d := json.NewDecoder(bytes.NewReader(s.payload))
	d.DisallowUnknownFields() // a field that is not understood could be a condition
	if err := d.Decode(&s.Request); err != nil {
		return Signed{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Signed{}, fmt.Errorf("%w: something follows the payload", ErrMalformed)
	}
	return s, s.Check()
}

// Text is the form in which a request travels.
func (s Signed) Text() string {
	e := base64.RawURLEncoding
	return prefix + "." + e.EncodeToString(s.payload) + "." + e.EncodeToString(s.signature)
}
