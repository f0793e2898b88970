package sign

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/ratchetos/ratchet/image/uki"
)

// ErrUnsigned means that an image carries no signature.
var ErrUnsigned = errors.New("image is not signed")

// ErrSignature is wrapped by every error about a signature that does not hold.
var ErrSignature = errors.New("signature does not hold")

// Verify checks that the image is signed by the owner of cert. As in the firmware's db, the
// certificate itself is what is trusted: its validity period does not count.
func Verify(f *uki.File, cert *x509.Certificate) error {
	msg, err := message(f.Certificates())
	if err != nil {
		return err
	}
	sd, err := parseSigned(msg)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSignature, err)
	}
	content := sd.Content.Content.Bytes
	var ind indirectData
	if rest, err := asn1.Unmarshal(content, &ind); err != nil || len(rest) > 0 {
		return fmt.Errorf("%w: no digest of the image inside", ErrSignature)
	}
	digest := Digest(f)
	if !ind.Digest.Algorithm.Algorithm.Equal(oidSHA256) || !bytes.Equal(ind.Digest.Digest, digest[:]) {
		return fmt.Errorf("%w: the image was changed after it was signed", ErrSignature)
	}
	s := sd.Signers[0]
	if !bytes.Equal(s.Issuer.Name.FullBytes, cert.RawIssuer) || s.Issuer.Serial.Cmp(cert.SerialNumber) != 0 {
		return fmt.Errorf("%w: signed by another certificate than %q", ErrSignature, cert.Subject.CommonName)
	}
	// Our own attributes for this content are the only ones accepted, byte for byte: with that,
	// content type and message digest need no reading of their own.
	want, err := attributes(content)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSignature, err)
	}
	if !bytes.Equal(s.Signed.Bytes, retag(want).Bytes) {
		return verifyForeign(s, content, cert)
	}
	if err := cert.CheckSignature(x509.SHA256WithRSA, want, s.Signature); err != nil {
		return fmt.Errorf("%w: %w", ErrSignature, err)
	}
	return nil
}

// verifyForeign checks a signature of another tool, which may sign more attributes (sbsign adds
// the time); the message digest must be among them.
func verifyForeign(s signerInfo, content []byte, cert *x509.Certificate) error {
	var inner asn1.RawValue
	if _, err := asn1.Unmarshal(content, &inner); err != nil {
		return fmt.Errorf("%w: %w", ErrSignature, err)
	}
	want := sha256.Sum256(inner.Bytes)
	found := false
	for rest := s.Signed.Bytes; len(rest) > 0; {
		var a attribute
		var err error
		if rest, err = asn1.Unmarshal(rest, &a); err != nil {
			return fmt.Errorf("%w: attributes: %w", ErrSignature, err)
		}
		if a.Type.Equal(oidMessageDigest) {
			var got []byte
			if _, err := asn1.Unmarshal(a.Values.Bytes, &got); err != nil || !bytes.Equal(got, want[:]) {
				return fmt.Errorf("%w: message digest differs", ErrSignature)
			}
			found = true
		}
	}
	if !found {
		return fmt.Errorf("%w: no message digest", ErrSignature)
	}
	set, err := asn1.Marshal(asn1.RawValue{Class: asn1.ClassUniversal, Tag: asn1.TagSet, IsCompound: true, Bytes: s.Signed.Bytes})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSignature, err)
	}
	if err := cert.CheckSignature(x509.SHA256WithRSA, set, s.Signature); err != nil {
		return fmt.Errorf("%w: %w", ErrSignature, err)
	}
	return nil
}

// message takes the first PKCS #7 message out of a certificate table.
func message(table []byte) ([]byte, error) {
	if len(table) == 0 {
		return nil, ErrUnsigned
	}
	le := binary.LittleEndian
	if len(table) < certHeader {
		return nil, fmt.Errorf("%w: certificate table of %d bytes", ErrSignature, len(table))
	}
	n := int(le.Uint32(table))
	if n < certHeader || n > len(table) || le.Uint16(table[4:]) != certRevision || le.Uint16(table[6:]) != certTypePKCS {
		return nil, fmt.Errorf("%w: not a PKCS #7 certificate entry", ErrSignature)
	}
	return table[certHeader:n], nil
}

// parseSigned reads a SignedData with exactly one signer. Bytes behind it are padding.
func parseSigned(der []byte) (*signedData, error) {
	var ci contentInfo
	if _, err := asn1.Unmarshal(der, &ci); err != nil {
		return nil, fmt.Errorf("parse PKCS #7: %w", err)
	}
	if !ci.Type.Equal(oidSignedData) {
		return nil, fmt.Errorf("parse PKCS #7: content type %v", ci.Type)
	}
	var sd signedData
	if _, err := asn1.Unmarshal(ci.Content.Bytes, &sd); err != nil {
		return nil, fmt.Errorf("parse PKCS #7: %w", err)
	}
	if !sd.Content.Type.Equal(oidIndirectData) || len(sd.Signers) != 1 || sd.Signers[0].Issuer.Serial == nil {
		return nil, errors.New("parse PKCS #7: not one signature over an image digest")
	}
	return &sd, nil
}
