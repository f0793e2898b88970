package bundle

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// Keys verify bundles; any of them will do.
type Keys []*ecdsa.PublicKey

// ParseKeys reads PEM public keys; all must be P-256.
func ParseKeys(pems []string) (Keys, error) {
	var keys Keys
	for i, text := range pems {
		block, _ := pem.Decode([]byte(text))
		if block == nil {
			return nil, fmt.Errorf("read bundle key %d: not PEM", i)
		}
		pub, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("read bundle key %d: %w", i, err)
		}
		key, ok := pub.(*ecdsa.PublicKey)
		if !ok || key.Curve != elliptic.P256() {
			return nil, fmt.Errorf("read bundle key %d: not a P-256 key", i)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// verify reports whether one of the keys signed the manifest.
func (k Keys) verify(manifest, signature []byte) bool {
	sum := sha256.Sum256(manifest)
	for _, key := range k {
		if ecdsa.VerifyASN1(key, sum[:], signature) {
			return true
		}
	}
	return false
}

// Sign signs a manifest's bytes with a P-256 key, which may be in a token.
func Sign(manifest []byte, key crypto.Signer) ([]byte, error) {
	if pub, ok := key.Public().(*ecdsa.PublicKey); !ok || pub.Curve != elliptic.P256() {
		return nil, errors.New("sign manifest: the bundle key is not a P-256 key")
	}
	sum := sha256.Sum256(manifest)
	// Without a source of randomness Go's own keys sign by RFC 6979: the same bundle again.
	sig, err := key.Sign(nil, sum[:], crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("sign manifest: %w", err)
	}
	return sig, nil
}
