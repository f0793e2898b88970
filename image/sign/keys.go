package sign

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base32"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/renameio/v2"
)

// Files of the development keys.
const (
	KeyFile      = "secureboot.key"
	CertFile     = "secureboot.crt"
	RecoveryFile = "recovery.key"
)

// DevelopmentDir is where development keys live: $XDG_CONFIG_HOME/ratchet/keys.
func DevelopmentDir() (string, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("find configuration folder: %w", err)
	}
	return filepath.Join(dir, "ratchet", "keys"), nil
}

// Development returns the development identity in dir and makes it when there is none;
// created says so.
func Development(dir string) (id Identity, created bool, err error) {
	key, cert := filepath.Join(dir, KeyFile), filepath.Join(dir, CertFile)
	id, err = Load(key, cert)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return id, false, err
	}
	// One half without the other is somebody's mistake, not a first build: making a new pair
	// would silently orphan every box that enrolled the old certificate.
	for _, p := range []string{key, cert} {
		if _, err := os.Lstat(p); err == nil {
			return Identity{}, false, fmt.Errorf("development key is incomplete: only %s exists; restore the other half or remove it", p)
		}
	}
	if err := generate(key, cert); err != nil {
		return Identity{}, false, err
	}
	id, err = Load(key, cert)
	return id, true, err
}

// generate writes a new RSA-2048 key and its self-signed certificate.
func generate(keyPath, certPath string) error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return fmt.Errorf("make development key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return fmt.Errorf("make development key: %w", err)
	}
	now := time.Now()
	tmpl := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "Ratchet development Secure Boot key", Organization: []string{"Ratchet"}},
		NotBefore:             now.Add(-24 * time.Hour), // a box whose clock is a little behind
		NotAfter:              now.AddDate(10, 0, 0),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
		BasicConstraintsValid: true,
	}
	cert, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return fmt.Errorf("make development certificate: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("make development key: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(keyPath), 0o700); err != nil {
		return fmt.Errorf("make key folder: %w", err)
	}
	if err := renameio.WriteFile(keyPath, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		return fmt.Errorf("write development key: %w", err)
	}
	if err := renameio.WriteFile(certPath, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), 0o644); err != nil {
		return fmt.Errorf("write development certificate: %w", err)
	}
	return nil
}

// Load reads a PEM key and certificate.
func Load(keyPath, certPath string) (Identity, error) {
	der, err := readPEM(keyPath)
	if err != nil {
		return Identity{}, err
	}
	key, err := parseKey(der)
	if err != nil {
		return Identity{}, fmt.Errorf("read key %s: %w", keyPath, err)
	}
	cert, err := LoadCert(certPath)
	if err != nil {
		return Identity{}, err
	}
	return Identity{Key: key, Cert: cert}, nil
}

// LoadCert reads a PEM certificate.
func LoadCert(path string) (*x509.Certificate, error) {
	der, err := readPEM(path)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read certificate %s: %w", path, err)
	}
	return cert, nil
}

func parseKey(der []byte) (crypto.Signer, error) {
	if k, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return k, nil
	}
	k, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, err
	}
	s, ok := k.(crypto.Signer)
	if !ok {
		return nil, errors.New("not a signing key")
	}
	return s, nil
}

func readPEM(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("read key: %s is not PEM", path)
	}
	return block.Bytes, nil
}

// DevelopmentRecoveryKey returns the recovery key of development images, made on first use: 160
// random bits in groups of four that a person can type at a serial console.
func DevelopmentRecoveryKey(dir string) (string, error) {
	path := filepath.Join(dir, RecoveryFile)
	b, err := os.ReadFile(path)
	if err == nil {
		return strings.TrimSpace(string(b)), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read recovery key: %w", err)
	}
	raw := make([]byte, 20)
	if _, err := rand.Read(raw); err != nil {
		return "", fmt.Errorf("make recovery key: %w", err)
	}
	text := base32.StdEncoding.EncodeToString(raw)
	var groups []string
	for len(text) > 0 {
		groups = append(groups, text[:4])
		text = text[4:]
	}
	key := strings.Join(groups, "-")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make key folder: %w", err)
	}
	if err := renameio.WriteFile(path, []byte(key+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("write recovery key: %w", err)
	}
	return key, nil
}
