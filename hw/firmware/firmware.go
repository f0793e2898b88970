package firmware

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
)

var (
	// ErrUnsupported says that the device has no firmware that can be read or replaced.
	ErrUnsupported = errors.New("the device offers no way to its firmware")
	// ErrImage says that the device refused the image.
	ErrImage = errors.New("the device refuses the firmware image")
)

// Strength says how well a device's word on its firmware can be checked.
type Strength int

// The strengths, weakest first.
const (
	None    Strength = iota // it says nothing
	Version                 // a version, which a changed firmware can fake
	Digest                  // the firmware itself was read and hashed
)

func (s Strength) String() string {
	switch s {
	case None:
		return "none"
	case Version:
		return "version"
	}
	return "digest"
}

// Reading is what a device runs, as far as it can be read.
type Reading struct {
	// Slot is the place it runs from, "" when the device has only one or does not say.
	Slot     string
	Version  string
	Digest   [32]byte // SHA-256, with Strength Digest
	Strength Strength
	// Next is the version that the next reset activates, "" when that changes nothing.
	Next string
}

func (r Reading) String() string {
	switch r.Strength {
	case Digest:
		return r.Version + " (" + hex.EncodeToString(r.Digest[:6]) + ")"
	case Version:
		return r.Version
	}
	return "not told"
}

// Component is one firmware of a device: a NIC may have several, most devices have one.
type Component struct {
	Name    string // "fw.mgmt"; "" on a device with one
	Running string // version
	// Stored is the version that the next reset activates, "" when it is the same.
	Stored string
	// Fixed components are part of the board and cannot be replaced.
	Fixed bool
	Slots []Slot
}

// Slot is a place that holds one image.
type Slot struct {
	Name     string
	Version  string // "" when empty
	Active   bool   // runs
	Next     bool   // runs after the next reset
	ReadOnly bool
	Digest   [32]byte // zero when the device does not give it
}

// When says when what was activated runs.
type When int

// The two answers of Activate.
const (
	Now When = iota
	AtReset
)

func (w When) String() string {
	if w == Now {
		return "now"
	}
	return "at the next reset"
}

// Progress is how far Flash is. Total is 0 when the device does not say.
type Progress struct {
	Phase       string // "write", or the device's own word
	Done, Total int64
}

// Firmware is one device's. Errors are the device's own, ctx's or those of this package.
type Firmware interface {
	// Inventory lists what there is, without changing it.
	Inventory(ctx context.Context) ([]Component, error)
	// Flash stores an image of size bytes. progress may be nil; it is called by the same goroutine.
	Flash(ctx context.Context, image io.ReaderAt, size int64, progress func(Progress)) error
	// Activate makes what Flash stored the firmware to run.
	Activate(ctx context.Context) (When, error)
	// ReadBack says what runs now.
	ReadBack(ctx context.Context) (Reading, error)
	io.Closer
}

// Selecter is a Firmware with slots: what is in one of them may be activated without flashing it. It
// is how a device goes back to the firmware it had.
type Selecter interface {
	// Select makes Activate take the named slot.
	Select(ctx context.Context, slot string) error
}
