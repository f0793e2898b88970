package pcrsig

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/ratchetos/ratchet/boot/counter"
)

// Fingerprint names a key in a file: the SHA-256 of its DER SubjectPublicKeyInfo.
func Fingerprint(k *ecdsa.PublicKey) (Digest, error) {
	der, err := x509.MarshalPKIXPublicKey(k)
	if err != nil {
		return Digest{}, fmt.Errorf("policy key: %w", err)
	}
	return sha256.Sum256(der), nil
}

// ParseKeys reads the policy keys of an image: two PEM public keys, the active one and its spare.
func ParseKeys(text []string) (counter.Keys, error) {
	var keys counter.Keys
	if len(text) != len(keys) {
		return keys, fmt.Errorf("policy keys: there are %d, want an active one and a spare", len(text))
	}
	for i, t := range text {
		block, rest := pem.Decode([]byte(t))
		if block == nil || len(rest) != 0 {
			return counter.Keys{}, fmt.Errorf("policy key %d is not one PEM block", i+1)
		}
		k, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return counter.Keys{}, fmt.Errorf("policy key %d: %w", i+1, err)
		}
		ec, ok := k.(*ecdsa.PublicKey)
		if !ok || ec.Curve != elliptic.P256() {
			return counter.Keys{}, fmt.Errorf("policy key %d is not of curve P-256", i+1)
		}
		keys[i] = ec
	}
	if keys[0].Equal(keys[1]) {
		return counter.Keys{}, errors.New("policy keys: the spare is the active key")
	}
	return keys, nil
}

// EncodeKey is the PEM form that ParseKeys reads.
func EncodeKey(k *ecdsa.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(k)
	if err != nil {
		return "", fmt.Errorf("policy key: %w", err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})), nil
}
