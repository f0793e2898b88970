package builder

import (
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/ratchetos/ratchet/boot/bundle"
	"github.com/ratchetos/ratchet/image/keys"
	"github.com/ratchetos/ratchet/image/sign"
)

// ErrDevelopment means that an image carries a development policy where a release is asked for.
var ErrDevelopment = errors.New("development image")

// Check says what an image must be.
type Check struct {
	Cert        *x509.Certificate // that must have signed it
	Manifest    *Manifest         // image.json that must agree; nil when there is none
	Development bool              // accept a development policy
	// DevelopmentKeys accepts a release that development keys signed.
	DevelopmentKeys bool
	BundleKeys      bundle.Keys // one of which must have signed an update
}

// ErrDevelopmentKeys means that a release is signed with keys that nobody guards.
var ErrDevelopmentKeys = errors.New("signed with development keys")

// Verify checks each image of a report; all failures are returned together.
func Verify(r *Report, c Check) error {
	var errs []error
	for _, image := range r.Images {
		where := ""
		if image.Slot != "" {
			where = "slot " + image.Slot + ": "
		}
		for _, err := range c.image(image) {
			errs = append(errs, fmt.Errorf("%s%w", where, err))
		}
	}
	if b := r.Bundle; b != nil {
		if err := b.verify(c.BundleKeys, r.Images[0]); err != nil {
			errs = append(errs, fmt.Errorf("update: %w", err))
		}
	}
	return errors.Join(errs...)
}

func (c Check) image(r ImageReport) (errs []error) {
	if err := sign.Verify(r.file, c.Cert); err != nil {
		errs = append(errs, err)
	}
	if !c.Development && !c.DevelopmentKeys && keys.DevelopmentCertificate(c.Cert) {
		errs = append(errs, fmt.Errorf("%w (%q): sign a release with keys of your own, see `image keys init`", ErrDevelopmentKeys, c.Cert.Subject.CommonName))
	}
	if m := c.Manifest; m != nil {
		if r.PCR11 != m.PCR11.SHA256 {
			errs = append(errs, fmt.Errorf("PCR 11 is predicted as %s, the manifest says %s: it belongs to another build", r.PCR11, m.PCR11.SHA256))
		}
		if r.Policy.Version != m.Version || r.Policy.Flavour != m.Flavour || r.Policy.Development != m.Development {
			errs = append(errs, fmt.Errorf("policy inside is %s %s (development %v), the manifest says %s %s (%v)",
				r.Policy.Version, r.Policy.Flavour, r.Policy.Development, m.Version, m.Flavour, m.Development))
		}
	}
	switch {
	case r.policyErr != nil:
		errs = append(errs, fmt.Errorf("no policy inside: %w", r.policyErr))
	case r.Policy.TPM != "required":
		errs = append(errs, fmt.Errorf("the policy does not require a TPM (tpm: %q)", r.Policy.TPM))
	case r.Policy.Development && !c.Development:
		errs = append(errs, fmt.Errorf("%w: it provisions any box by itself and carries its recovery key; "+
			"build with --release, or pass --development to check it as what it is", ErrDevelopment))
	}
	if f := r.Policy.Fault; f != "" && !c.Development {
		errs = append(errs, fmt.Errorf("%w: it fails on purpose (%s), for tests", ErrDevelopment, f))
	}
	if r.policyErr == nil {
		if err := r.approved(); err != nil {
			errs = append(errs, err)
		}
	}
	if direct, err := r.approvesDirect(); err != nil {
		errs = append(errs, err)
	} else if direct && !c.Development {
		errs = append(errs, ErrDirect)
	}
	return errs
}
