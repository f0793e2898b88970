package enroll

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
)

var (
	// ErrNoUEFI means that the machine was not started by UEFI firmware.
	ErrNoUEFI = errors.New("the machine was not started by UEFI firmware, which is what Secure Boot is part of")
	// ErrNoKeys means that the image was built without keys to enroll.
	ErrNoKeys = errors.New("the image carries no Secure Boot keys: build it anew")
	// ErrEnrolled means that there is nothing to do.
	ErrEnrolled = errors.New("the firmware has the keys of this image already")
	// ErrUserMode means that the firmware takes no keys now.
	ErrUserMode = errors.New("the firmware is not in setup mode: clear the platform key (or all Secure Boot keys) in the firmware's setup, then start this image again")
)

// Variables are those of the firmware. A variable that is not there is fs.ErrNotExist.
type Variables interface {
	Get(name, vendor string) ([]byte, error)
	// SetAs writes a variable with its attributes in one go.
	SetAs(name, vendor string, attributes uint32, value []byte) error
}

// Files are the updates an image carries, each as Update.Bytes.
type Files struct{ PK, KEK, DB []byte }

// Options of a plan. The zero value enrolls our keys alone.
type Options struct {
	// KeepFirmware keeps the certificates the board came with in db.
	KeepFirmware bool
	// ROMs are devices with an option ROM, for the warning.
	ROMs []string
}

// Plan is what Apply will write, in order.
type Plan struct {
	steps    []step
	ours     []byte // db, for looking it up afterwards
	Warnings []string
}

type step struct {
	Variable
	update Update
	certs  []*x509.Certificate
	note   string
}

// New reads the firmware and the image's updates, and plans. Nothing is written. Errors: ErrNoUEFI,
// ErrNoKeys, ErrEnrolled, ErrUserMode, ErrFormat.
func New(v Variables, f Files, o Options) (Plan, error) {
	mode, err := v.Get("SetupMode", Global)
	if err != nil || len(mode) != 1 {
		return Plan{}, ErrNoUEFI
	}
	if f.PK == nil || f.KEK == nil || f.DB == nil {
		return Plan{}, ErrNoKeys
	}
	var p Plan
	for _, x := range []struct {
		Variable
		file []byte
	}{{DB, f.DB}, {KEK, f.KEK}, {PK, f.PK}} {
		s := step{Variable: x.Variable}
		if s.update, err = ParseUpdate(x.file); err == nil {
			s.certs, err = Certificates(s.update.Value)
		}
		if err != nil {
			return Plan{}, fmt.Errorf("%s of the image: %w", x.Name, err)
		}
		if len(s.certs) == 0 {
			return Plan{}, fmt.Errorf("%s of the image: %w: no certificate", x.Name, ErrFormat)
		}
		p.steps = append(p.steps, s)
	}
	p.ours = p.steps[0].update.Value
	if mode[0] != 1 {
		if db, err := v.Get(DB.Name, DB.Vendor); err == nil && bytes.Contains(db, p.ours) {
			return Plan{}, ErrEnrolled
		}
		return Plan{}, ErrUserMode
	}
	if o.KeepFirmware {
		return p, p.keep(v)
	}
	if len(o.ROMs) > 0 {
		p.Warnings = append(p.Warnings, fmt.Sprintf("%d devices have firmware of their own (option ROMs), which will not run if the board's maker signed it: "+
			"a screen may stay dark, a network or storage card may not start the machine: %s", len(o.ROMs), list(o.ROMs)),
			"`enroll keep` keeps the certificates the board came with, and with them those option ROMs and whatever else they signed")
	}
	return p, nil
}

// keep adds what the board came with. An update that nobody could sign beforehand goes unsigned:
// in setup mode only PK is asked for a signature.
func (p *Plan) keep(v Variables) error {
	def, err := v.Get("dbDefault", Global)
	if errors.Is(err, fs.ErrNotExist) {
		p.Warnings = append(p.Warnings, "the firmware does not say which certificates the board came with (no dbDefault): none can be kept")
		return nil
	}
	if err != nil {
		return err
	}
	certs, err := Certificates(def)
	if err != nil {
		return fmt.Errorf("dbDefault of the firmware: %w", err)
	}
	db := &p.steps[0]
	db.update.Signature = nil
	db.update.Value = append(bytes.Clone(db.update.Value), def...)
	db.certs = append(db.certs, certs...)
	p.Warnings = append(p.Warnings, "whatever the board's certificates signed will start, too: boot loaders of other systems among it")
	revoked, err := v.Get("dbxDefault", Global)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := Certificates(revoked); err != nil {
		return fmt.Errorf("dbxDefault of the firmware: %w", err)
	}
	dbx := step{Variable: DBX, update: Update{Time: db.update.Time, Value: revoked}, note: fmt.Sprintf("%d bytes of revocations that the board came with", len(revoked))}
	p.steps = append([]step{dbx}, p.steps...)
	return nil
}

// Lines tell what will be written.
func (p Plan) Lines() []string {
	var lines []string
	for _, s := range p.steps {
		if s.note != "" {
			lines = append(lines, fmt.Sprintf("%-4s %s", s.Name, s.note))
		}
		for _, c := range s.certs {
			lines = append(lines, fmt.Sprintf("%-4s %q, SHA-256 %x", s.Name, c.Subject.CommonName, sha256.Sum256(c.Raw)))
		}
	}
	return lines
}

// Apply writes the variables and reads back that the firmware took them. A step that fails leaves
// setup mode on, since PK is the last.
func (p Plan) Apply(v Variables) error {
	for _, s := range p.steps {
		if err := v.SetAs(s.Name, s.Vendor, Attributes, s.update.Bytes()); err != nil {
			return fmt.Errorf("enroll %s: %w", s.Name, err)
		}
	}
	mode, err := v.Get("SetupMode", Global)
	if err == nil && (len(mode) != 1 || mode[0] != 0) {
		err = errors.New("the firmware took the keys and is still in setup mode")
	}
	var db []byte
	if err == nil {
		db, err = v.Get(DB.Name, DB.Vendor)
	}
	if err == nil && !bytes.Contains(db, p.ours) {
		err = errors.New("db does not hold what was written to it")
	}
	if err != nil {
		return fmt.Errorf("read keys back: %w", err)
	}
	return nil
}

// list names a few and counts the rest.
func list(names []string) string {
	const most = 4
	var b bytes.Buffer
	for i, n := range names {
		if i == most {
			fmt.Fprintf(&b, " and %d more", len(names)-most)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(n)
	}
	return b.String()
}
