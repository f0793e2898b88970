package ovmf

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/ratchetos/ratchet/boot/enroll"
)

// The GUIDs that UEFI 2.10 (section 32.6) and EDK II give to Secure Boot's variables.
var (
	globalVariable    = MustGUID("8be4df61-93ca-11d2-aa0d-00e098032b8c")
	imageSecurity     = MustGUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f")
	secureBootEnable  = MustGUID("f0a30bc7-af08-4556-99c4-001009c93a44")
	customModeVariant = MustGUID("c076ec0c-7028-4399-a072-71ee5c448b9f")
)

// Enroll returns a copy of a variable store in which cert is platform key, key exchange key and the only
// certificate that may sign what boots, and Secure Boot is on. cert is one PEM certificate.
func Enroll(image, cert []byte) ([]byte, error) {
	s, err := Parse(image)
	if err != nil {
		return nil, err
	}
	c, err := parseCertificate(cert)
	if err != nil {
		return nil, fmt.Errorf("enrol Secure Boot keys: %w", err)
	}
	list := enroll.Lists(c)
	// The firmware accepts a later signed update only if it is newer than this. The certificate's own
	// birthday is older than anything it can sign, and makes the result reproducible.
	keys := func(name string, vendor GUID) Variable {
		attrs := NonVolatile | BootServiceAccess | RuntimeAccess | TimeBasedAuth
		return Variable{Name: name, Vendor: vendor, Attributes: attrs, Timestamp: c.NotBefore, Data: list}
	}
	flag := func(name string, vendor GUID, value byte) Variable {
		return Variable{Name: name, Vendor: vendor, Attributes: NonVolatile | BootServiceAccess, Data: []byte{value}}
	}
	for _, v := range []Variable{
		keys("PK", globalVariable),
		keys("KEK", globalVariable),
		keys("db", imageSecurity),
		flag("SecureBootEnable", secureBootEnable, 1),
		flag("CustomMode", customModeVariant, 0), // standard mode: key changes need a signature
	} {
		if err := s.Set(v); err != nil {
			return nil, fmt.Errorf("enrol Secure Boot keys: %w", err)
		}
	}
	return s.Bytes(), nil
}

// Enrolled tells whether Secure Boot is on in a variable store and cert is the one certificate in its db. A store
// that came from Enroll with the same certificate is; one that was made without Secure Boot, or with another
// certificate, is not.
func Enrolled(image, cert []byte) (bool, error) {
	s, err := Parse(image)
	if err != nil {
		return false, err
	}
	c, err := parseCertificate(cert)
	if err != nil {
		return false, fmt.Errorf("look for Secure Boot keys: %w", err)
	}
	db, _ := s.Get("db", imageSecurity)
	certs, err := enroll.Certificates(db.Data)
	if err != nil {
		return false, fmt.Errorf("look for Secure Boot keys: %w", err)
	}
	enable, _ := s.Get("SecureBootEnable", secureBootEnable)
	return len(enable.Data) == 1 && enable.Data[0] == 1 && len(certs) == 1 && certs[0].Equal(c), nil
}

func parseCertificate(text []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("the certificate is not PEM, want a CERTIFICATE block")
	}
	return x509.ParseCertificate(block.Bytes)
}
