package pki

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/google/renameio/v2"
)

// EncodeCertificate and EncodeKey give the PEM form in which things are kept.
func EncodeCertificate(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// EncodeKey gives PKCS#8 in PEM.
func EncodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode private key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// writePair writes the key first: after a power cut between the two there is no certificate,
// and the pair is made again.
func writePair(dir, name string, der []byte, key *ecdsa.PrivateKey) error {
	certPath, keyPath := pairPaths(dir, name)
	// An old certificate beside a new key would be a pair that does not match.
	if err := os.Remove(certPath); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("replace certificate: %w", err)
	}
	encoded, err := EncodeKey(key)
	if err != nil {
		return err
	}
	if err := renameio.WriteFile(keyPath, encoded, 0o600); err != nil {
		return fmt.Errorf("write private key: %w", err)
	}
	if err := renameio.WriteFile(certPath, EncodeCertificate(der), 0o600); err != nil {
		return fmt.Errorf("write certificate: %w", err)
	}
	return nil
}

func readPair(dir, name string) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	certPath, keyPath := pairPaths(dir, name)
	certPEM, err := os.ReadFile(certPath)
	if err != nil {
		return nil, nil, err
	}
	keyPEM, err := os.ReadFile(keyPath)
	if err != nil {
		return nil, nil, err
	}
	cert, err := ParseCertificate(certPEM)
	if err != nil {
		return nil, nil, fmt.Errorf("read %s: %w", certPath, err)
	}
	block, _ := pem.Decode(keyPEM)
	if block == nil {
		return nil, nil, fmt.Errorf("read %s: no PEM block", keyPath)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, nil, fmt.Errorf("read %s: %w", keyPath, err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || !key.PublicKey.Equal(cert.PublicKey) {
		return nil, nil, fmt.Errorf("read %s: the key does not belong to %s", keyPath, certPath)
	}
	return cert, key, nil
}

// ParseCertificate reads one certificate in PEM.
func ParseCertificate(data []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("no certificate in PEM")
	}
	return x509.ParseCertificate(block.Bytes)
}
