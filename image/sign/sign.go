package sign

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/ratchetos/ratchet/image/uki"
)

// Identity is a signing key with its certificate.
type Identity struct {
	Key  crypto.Signer // RSA
	Cert *x509.Certificate
}

// Digest is the Authenticode SHA-256 digest of an image: everything but the header checksum and
// the signature itself.
func Digest(f *uki.File) [32]byte {
	h := sha256.New()
	for _, part := range f.Signed() {
		h.Write(part)
	}
	return [32]byte(h.Sum(nil))
}

// Image signs an EFI program, replacing any signature it has.
func Image(image []byte, id Identity) ([]byte, error) {
	if _, ok := id.Key.Public().(*rsa.PublicKey); !ok {
		return nil, errors.New("sign image: the key is not RSA, which is all that firmware must accept")
	}
	if eq, ok := id.Cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !eq.Equal(id.Key.Public()) {
		return nil, errors.New("sign image: certificate and key do not belong together")
	}
	f, err := uki.Parse(image)
	if err != nil {
		return nil, fmt.Errorf("sign image: %w", err)
	}
	p7, err := pkcs7(Digest(f), id)
	if err != nil {
		return nil, fmt.Errorf("sign image: %w", err)
	}
	out, err := f.WithCertificates(certificateTable(p7))
	if err != nil {
		return nil, fmt.Errorf("sign image: %w", err)
	}
	return out, nil
}

// certificateTable wraps a PKCS #7 message in a WIN_CERTIFICATE, padded to eight bytes.
func certificateTable(p7 []byte) []byte {
	le := binary.LittleEndian
	n := (certHeader + len(p7) + 7) &^ 7
	b := make([]byte, 0, n)
	b = le.AppendUint32(b, uint32(n))
	b = le.AppendUint16(b, certRevision)
	b = le.AppendUint16(b, certTypePKCS)
	return append(b, p7...)[:n]
}

const (
	certHeader   = 8
	certRevision = 0x0200
	certTypePKCS = 0x0002
)

// pkcs7 is the signed message for an image digest.
func pkcs7(digest [32]byte, id Identity) ([]byte, error) {
	content, err := asn1.Marshal(indirectData{
		Data:   peImage{oidPEImageData, asn1.RawValue{FullBytes: peImageData}},
		Digest: digestInfo{sha256ID, digest[:]},
	})
	if err != nil {
		return nil, err
	}
	signed, err := attributes(content)
	if err != nil {
		return nil, err
	}
	h := sha256.Sum256(signed)
	// PKCS #1 v1.5 is deterministic; the reader only blinds the computation.
	signature, err := id.Key.Sign(rand.Reader, h[:], crypto.SHA256)
	if err != nil {
		return nil, err
	}
	msg, err := asn1.Marshal(signedData{
		Version:      1,
		Digests:      []pkix.AlgorithmIdentifier{sha256ID},
		Content:      contentInfo{oidIndirectData, explicit(content)},
		Certificates: asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: id.Cert.Raw},
		Signers: []signerInfo{{
			Version:   1,
			Issuer:    issuerSerial{asn1.RawValue{FullBytes: id.Cert.RawIssuer}, id.Cert.SerialNumber},
			Digest:    sha256ID,
			Signed:    retag(signed),
			Algorithm: pkix.AlgorithmIdentifier{Algorithm: oidRSA, Parameters: asn1.NullRawValue},
			Signature: signature,
		}},
	})
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(contentInfo{oidSignedData, explicit(msg)})
}

// attributes is the DER SET that is signed. The message digest covers the content without its
// own tag and length (RFC 2315, 9.3).
func attributes(content []byte) ([]byte, error) {
	var inner asn1.RawValue
	if _, err := asn1.Unmarshal(content, &inner); err != nil {
		return nil, err
	}
	digest := sha256.Sum256(inner.Bytes)
	var attrs []attribute
	for _, a := range []struct {
		oid   asn1.ObjectIdentifier
		value any
	}{
		{oidContentType, oidIndirectData},
		{oidMessageDigest, digest[:]},
	} {
		v, err := asn1.Marshal(a.value)
		if err != nil {
			return nil, err
		}
		attrs = append(attrs, attribute{a.oid, asn1.RawValue{Class: asn1.ClassUniversal, Tag: asn1.TagSet, IsCompound: true, Bytes: v}})
	}
	return asn1.MarshalWithParams(attrs, "set")
}

// explicit wraps DER in [0] EXPLICIT.
func explicit(der []byte) asn1.RawValue {
	return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: der}
}

// retag turns a SET into the [0] IMPLICIT it is stored as, though signed as a SET.
func retag(set []byte) asn1.RawValue {
	var v asn1.RawValue
	if _, err := asn1.Unmarshal(set, &v); err != nil {
		return asn1.RawValue{}
	}
	return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: v.Bytes}
}
