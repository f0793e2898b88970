package ovmf

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// The GUIDs that UEFI 2.10 (section 32.6) and EDK II give to Secure Boot's variables.
var (
	globalVariable    = MustGUID("8be4df61-93ca-11d2-aa0d-00e098032b8c")
	imageSecurity     = MustGUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f")
	secureBootEnable  = MustGUID("f0a30bc7-af08-4556-99c4-001009c93a44")
	customModeVariant = MustGUID("c076ec0c-7028-4399-a072-71ee5c448b9f")
	certX509          = MustGUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")
	// owner marks our entries in the signature lists; the firmware only shows it.
	owner = MustGUID("6d2c7b1e-5f0a-4c39-9b57-0a6f5f2e8c41")
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
	list := signatureList(c.Raw)
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
	certs, err := Certificates(db.Data)
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

const (
	listHeaderLen = 28 // type GUID and three lengths
	ownerLen      = 16
)

// signatureList wraps one DER certificate in an EFI_SIGNATURE_LIST.
func signatureList(der []byte) []byte {
	b := append([]byte(nil), certX509[:]...)
	b = le.AppendUint32(b, uint32(listHeaderLen+ownerLen+len(der)))
	b = le.AppendUint32(b, 0)
	b = le.AppendUint32(b, uint32(ownerLen+len(der)))
	b = append(b, owner[:]...)
	return append(b, der...)
}

// Certificates reads the X.509 certificates out of a variable such as db: a sequence of signature lists.
// Lists of other types are passed over.
func Certificates(data []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for len(data) > 0 {
		if len(data) < listHeaderLen {
			return nil, fmt.Errorf("read signature list: %d bytes left over", len(data))
		}
		total, header, each := le.Uint32(data[16:]), le.Uint32(data[20:]), le.Uint32(data[24:])
		if total < listHeaderLen || uint64(total) > uint64(len(data)) || header > total-listHeaderLen {
			return nil, fmt.Errorf("read signature list: length %d of %d, header %d", total, len(data), header)
		}
		entries := data[listHeaderLen+header : total]
		if GUID(data[:16]) == certX509 {
			if each <= ownerLen || len(entries)%int(each) != 0 {
				return nil, fmt.Errorf("read signature list: entries of %d bytes in %d", each, len(entries))
			}
			for ; len(entries) > 0; entries = entries[each:] {
				c, err := x509.ParseCertificate(entries[ownerLen:each])
				if err != nil {
					return nil, fmt.Errorf("read signature list: %w", err)
				}
				certs = append(certs, c)
			}
		}
		data = data[total:]
	}
	return certs, nil
}
