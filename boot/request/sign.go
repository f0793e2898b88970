package request

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
)

// domain keeps a signature over a request from being one over anything else.
const domain = "ratchet request 1\n"

func digest(payload []byte) []byte {
	h := sha256.New()
	h.Write([]byte(domain))
	h.Write(payload)
	return h.Sum(nil)
}

// Sign makes a request. The key is an ECDSA P-256 key, wherever it is kept.
func Sign(key crypto.Signer, r Request) (Signed, error) {
	if err := r.Check(); err != nil {
		return Signed{}, err
	}
	if p, ok := key.Public().(*ecdsa.PublicKey); !ok || p.Curve != elliptic.P256() {
		return Signed{}, fmt.Errorf("sign request: the key is not an ECDSA P-256 key")
	}
	payload, err := json.Marshal(r)
	if err != nil {
		return Signed{}, fmt.Errorf("sign request: %w", err)
	}
	signature, err := key.Sign(rand.Reader, digest(payload), crypto.SHA256)
	if err != nil {
		return Signed{}, fmt.Errorf("sign request: %w", err)
	}
	return Signed{Request: r, payload: payload, signature: signature}, nil
}

// Keys reads public keys in PEM, as the image's policy holds them.
func Keys(texts []string) ([]*ecdsa.PublicKey, error) {
	keys := make([]*ecdsa.PublicKey, 0, len(texts))
	for i, text := range texts {
		block, _ := pem.Decode([]byte(text))
		if block == nil {
			return nil, fmt.Errorf("read owner key %d: not PEM", i)
		}
		k, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("read owner key %d: %w", i, err)
		}
		p, ok := k.(*ecdsa.PublicKey)
		if !ok || p.Curve != elliptic.P256() {
			return nil, fmt.Errorf("read owner key %d: not an ECDSA P-256 key", i)
		}
		keys = append(keys, p)
	}
	return keys, nil
}

// Fingerprint names a key in the journal and on consoles.
func Fingerprint(k *ecdsa.PublicKey) string {
	der, err := x509.MarshalPKIXPublicKey(k)
	if err != nil {
		return "unknown" // a key on a curve that x509 does not know; Keys lets none in
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:6])
}

// Verify returns the fingerprint of the key that signed, or ErrSignature.
func (s Signed) Verify(keys []*ecdsa.PublicKey) (string, error) {
	for _, k := range keys {
		if ecdsa.VerifyASN1(k, digest(s.payload), s.signature) {
			return Fingerprint(k), nil
		}
	}
	return "", fmt.Errorf("%w (it has %d)", ErrSignature, len(keys))
}
