package ledger

import "fmt"

// Limits keep a ledger record inside its slot.
const (
	MaxImages  = 8
	MaxPlugins = 128
	MaxDevices = 256
)

// Strength says how well a target can be read back.
type Strength uint8

const (
	// StrengthAbsent is that of no such target. In an intent, "from absent" adds it.
	StrengthAbsent Strength = iota
	// StrengthNone is that of a target which says nothing about its content.
	StrengthNone
	// StrengthVersion is that of a reported version, which a changed firmware can fake.
	StrengthVersion
	// StrengthDigest is that of content which can be read and hashed.
	StrengthDigest
)

func (s Strength) String() string {
	switch s {
	case StrengthAbsent:
		return "absent"
	case StrengthNone:
		return "none"
	case StrengthVersion:
		return "version"
	case StrengthDigest:
		return "digest"
	}
	return fmt.Sprintf("strength(%d)", uint8(s))
}

// Content is what a target reads back as.
type Content struct {
	Strength Strength
	Digest   Digest
	Version  string
}

// OfDigest is the Content of a target that can be hashed.
func OfDigest(d Digest) Content {
	if d == (Digest{}) {
		return Content{}
	}
	return Content{Strength: StrengthDigest, Digest: d}
}

// Matches compares as far as the strength of c goes.
func (c Content) Matches(seen Content) bool {
	if c.Strength == StrengthAbsent || seen.Strength == StrengthAbsent {
		return c.Strength == seen.Strength
	}
	switch c.Strength {
	case StrengthDigest:
		return seen.Strength == StrengthDigest && seen.Digest == c.Digest
	case StrengthVersion:
		return seen.Version == c.Version
	}
	return true
}

func (c Content) String() string {
	switch c.Strength {
	case StrengthDigest:
		return c.Digest.Short()
	case StrengthVersion:
		return "version " + c.Version
	}
	return c.Strength.String()
}

// Ledger is what the box is expected to be. E holds the SHA-256 of its record.
type Ledger struct {
	Sequence uint64 // number of the record
	Counter  uint64 // C when it was written; E holds the same
	Journal  Digest // J when it was written
	Box      Box
	Images   []Image
	Config   Config
	Plugins  []Plugin
	Devices  []Device
}

// Box is what provisioning found.
type Box struct {
	SRK    string // Name of the storage root key, raw bytes
	PCR7   Digest // as measured when E was defined
	PCR11  Digest
	Policy Digest // authPolicy of E
	Image  string // version of the image that defined E
}

// Image is the content of one image slot.
type Image struct {
	Slot    string // "A" or "B"
	Digest  Digest
	Version uint64 // security version
}

// Config names the applied configuration and the one before it; zero is the image's own.
type Config struct {
	Now, Before Digest
}

// Plugin is an installed third-party plugin.
type Plugin struct {
	Name, Version string
	Digest        Digest
}

// Device is one that an operator or provisioning admitted.
type Device struct {
	ID      string // as package hw names it
	Place   string
	Kind    string
	Serial  string
	Content Content // its firmware
}

func (w *writer) content(c Content) {
	w.u8(uint8(c.Strength))
	w.digest(c.Digest)
	w.text(c.Version)
}

func (r *reader) content() Content {
	c := Content{Strength: Strength(r.u8()), Digest: r.digest(), Version: r.text()}
	if c.Strength > StrengthDigest {
		r.fail("%s", c.Strength)
	}
	return c
}

// Encode gives the record and its digest.
func (l *Ledger) Encode() ([]byte, Digest, error) {
	var w writer
	w.u64(l.Counter)
	w.digest(l.Journal)
	w.text(l.Box.SRK)
	w.digest(l.Box.PCR7)
	w.digest(l.Box.PCR11)
	w.digest(l.Box.Policy)
	w.text(l.Box.Image)
	w.count(len(l.Images), MaxImages)
	for _, i := range l.Images {
		w.text(i.Slot)
		w.digest(i.Digest)
		w.u64(i.Version)
	}
	w.digest(l.Config.Now)
	w.digest(l.Config.Before)
	w.count(len(l.Plugins), MaxPlugins)
	for _, p := range l.Plugins {
		w.text(p.Name)
		w.text(p.Version)
		w.digest(p.Digest)
	}
	w.count(len(l.Devices), MaxDevices)
	for _, d := range l.Devices {
		w.text(d.ID)
		w.text(d.Place)
		w.text(d.Kind)
		w.text(d.Serial)
		w.content(d.Content)
	}
	if w.err != nil {
		return nil, Digest{}, fmt.Errorf("ledger %d: %w", l.Sequence, w.err)
	}
	b := record{kind: kindLedger, number: l.Sequence, payload: w.b}.encode()
	return b, Sum(b), nil
}

// Decode reads a ledger record at the start of b and its digest. Errors: ErrEmpty, ErrCorrupt, ErrNewer.
func Decode(b []byte) (*Ledger, Digest, error) {
	rec, err := decodeRecord(b, kindLedger, slotSize-headerSize)
	if err != nil {
		return nil, Digest{}, err
	}
	r := reader{b: rec.payload}
	l := &Ledger{Sequence: rec.number, Counter: r.u64(), Journal: r.digest()}
	l.Box = Box{SRK: r.text(), PCR7: r.digest(), PCR11: r.digest(), Policy: r.digest(), Image: r.text()}
	for range r.count(MaxImages) {
		l.Images = append(l.Images, Image{Slot: r.text(), Digest: r.digest(), Version: r.u64()})
	}
	l.Config = Config{Now: r.digest(), Before: r.digest()}
	for range r.count(MaxPlugins) {
		l.Plugins = append(l.Plugins, Plugin{Name: r.text(), Version: r.text(), Digest: r.digest()})
	}
	for range r.count(MaxDevices) {
		l.Devices = append(l.Devices, Device{ID: r.text(), Place: r.text(), Kind: r.text(), Serial: r.text(), Content: r.content()})
	}
	if err := r.end(); err != nil {
		return nil, Digest{}, err
	}
	return l, Sum(b[:headerSize+len(rec.payload)]), nil
}

// Clone copies l, so that the next record can be made from it.
func (l *Ledger) Clone() *Ledger {
	c := *l
	c.Images = append([]Image(nil), l.Images...)
	c.Plugins = append([]Plugin(nil), l.Plugins...)
	c.Devices = append([]Device(nil), l.Devices...)
	return &c
}
