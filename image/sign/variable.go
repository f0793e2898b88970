package sign

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"

	"github.com/ratchetos/ratchet/boot/enroll"
)

var oidData = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}

// detachedData is a SignedData whose content travels outside.
type detachedData struct {
	Version int
	Digests []pkix.AlgorithmIdentifier `asn1:"set"`
	Content struct {
		Type asn1.ObjectIdentifier
	}
	Certificates asn1.RawValue `asn1:"optional,tag:0"`
	Signers      []signerInfo  `asn1:"set"`
}

// Variable signs an update of one of Secure Boot's variables: PK by itself, KEK by PK, db by KEK.
//
// The message is a bare SignedData without attributes: EDK II looks for the digest's OID at a fixed
// place, and the update has a time of its own.
func Variable(v enroll.Variable, attributes uint32, u enroll.Update, id Identity) (enroll.Update, error) {
	h := sha256.Sum256(u.ToBeSigned(v, attributes))
	signature, err := id.Key.Sign(rand.Reader, h[:], crypto.SHA256)
	if err != nil {
		return enroll.Update{}, fmt.Errorf("sign %s: %w", v.Name, err)
	}
	d := detachedData{
		Version:      1,
		Digests:      []pkix.AlgorithmIdentifier{sha256ID},
		Certificates: asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: id.Cert.Raw},
		Signers: []signerInfo{{
			Version:   1,
			Issuer:    issuerSerial{asn1.RawValue{FullBytes: id.Cert.RawIssuer}, id.Cert.SerialNumber},
			Digest:    sha256ID,
			Algorithm: pkix.AlgorithmIdentifier{Algorithm: oidRSA, Parameters: asn1.NullRawValue},
			Signature: signature,
		}},
	}
	d.Content.Type = oidData
	if u.Signature, err = asn1.Marshal(d); err != nil {
		return enroll.Update{}, fmt.Errorf("sign %s: %w", v.Name, err)
	}
	return u, nil
}
