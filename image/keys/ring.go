package keys

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/ratchetos/ratchet/image/sign"
)

// marker is the file that makes a folder's keys development keys.
const marker = "DEVELOPMENT"

// Ring is a folder of keys. The zero value of everything but Dir is fine.
type Ring struct {
	Dir string
	// URIs say where a role's private key is, in place of its file in Dir.
	URIs map[Role]string
	// Detach is the folder where signatures are asked for and looked up whose private key is not at
	// hand; "" makes that an error.
	Detach string
}

// DevelopmentDir is where development keys live: $XDG_CONFIG_HOME/ratchet/keys.
func DevelopmentDir() (string, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("find configuration folder: %w", err)
	}
	return filepath.Join(dir, "ratchet", "keys"), nil
}

// Development tells whether the ring was made by a build for itself.
func (r Ring) Development() bool {
	_, err := os.Lstat(filepath.Join(r.Dir, marker))
	return err == nil
}

// developmentName begins the names in certificates of development keys.
const developmentName = "Ratchet development"

// DevelopmentCertificate tells the same of a certificate that was found somewhere.
func DevelopmentCertificate(c *x509.Certificate) bool {
	return strings.HasPrefix(c.Subject.CommonName, developmentName)
}

// Has tells whether the ring has a key of its own for a role, or only its public half.
func (r Ring) Has(role Role) bool {
	if r.URIs[role] != "" {
		return true
	}
	for _, name := range []string{role.keyFile(), role.publicFile(), role.certFile()} {
		if _, err := os.Stat(filepath.Join(r.Dir, name)); err == nil {
			return true
		}
	}
	return false
}

// resolve is the role that stands in for PK and KEK in a ring that has none.
func (r Ring) resolve(role Role) Role {
	if (role == PlatformKey || role == ExchangeKey) && !r.Has(role) {
		return SecureBoot
	}
	return role
}

// Signer returns the key of a role. Its public half is the ring's, whatever the private half is; where a URI names the
// key before it, which is not dropped yet, it is that one's, for boxes that know no other.
//
// The signer of a file is deterministic when it is called without a source of randomness:
// Sign(nil, digest, crypto.SHA256) is PKCS #1 v1.5 or RFC 6979.
func (r Ring) Signer(role Role) (crypto.Signer, error) {
	role = r.resolve(role)
	s, err := r.open(role)
	if err != nil {
		return nil, err
	}
	if err := role.fits(s.Public()); err != nil {
		return nil, err
	}
	pub, err := r.recorded(role)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if pub != nil && !same(pub, s.Public()) && !r.before(role, s.Public()) {
		return nil, fmt.Errorf("key %s: private and public half in %s do not belong together", role, r.Dir)
	}
	return s, nil
}

// before says whether a key is the one that a role had until it was rotated.
func (r Ring) before(role Role, pub crypto.PublicKey) bool {
	old, err := r.recorded(role.old())
	return err == nil && same(old, pub)
}

// Public returns the public half of a role's key; the private one need not be there.
func (r Ring) Public(role Role) (crypto.PublicKey, error) {
	role = r.resolve(role)
	pub, err := r.recorded(role)
	if errors.Is(err, fs.ErrNotExist) {
		s, err := r.Signer(role)
		if err != nil {
			return nil, err
		}
		return s.Public(), nil
	}
	if err != nil {
		return nil, err
	}
	return pub, role.fits(pub)
}

// PublicPEM is Public as a PEM block "PUBLIC KEY".
func (r Ring) PublicPEM(role Role) (string, error) {
	pub, err := r.Public(role)
	if err != nil {
		return "", err
	}
	return EncodePublic(pub)
}

// EncodePublic writes a public key as PEM.
func EncodePublic(pub crypto.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return "", fmt.Errorf("write public key: %w", err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})), nil
}

// ParsePublic reads a PEM block "PUBLIC KEY".
func ParsePublic(text []byte) (crypto.PublicKey, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "PUBLIC KEY" {
		return nil, errors.New("read public key: not a PEM public key")
	}
	pub, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read public key: %w", err)
	}
	return pub, nil
}

// Certificate returns the certificate that a Secure Boot role's key signs under.
func (r Ring) Certificate(role Role) (*x509.Certificate, error) {
	role = r.resolve(role)
	if r.URIs[role] != "" {
		s, err := r.open(role)
		if err != nil {
			return nil, err
		}
		if r.before(role, s.Public()) {
			role = role.old()
		}
	}
	return r.certificate(role)
}

func (r Ring) certificate(role Role) (*x509.Certificate, error) {
	if !role.certified() {
		return nil, fmt.Errorf("key %s has no certificate", role)
	}
	return sign.LoadCert(filepath.Join(r.Dir, role.certFile()))
}

// Certificates are those that firmware should believe: the role's and, until it is dropped, the one before.
func (r Ring) Certificates(role Role) ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	for _, role := range []Role{r.resolve(role), r.resolve(role).old()} {
		if len(all) > 0 && !r.Has(role) {
			break
		}
		cert, err := r.certificate(role)
		if err != nil {
			return nil, err
		}
		all = append(all, cert)
	}
	return all, nil
}

// CertificatePEM is Certificate as a PEM block.
func (r Ring) CertificatePEM(role Role) ([]byte, error) {
	cert, err := r.Certificate(role)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}), nil
}

// Identity returns key and certificate of a Secure Boot role.
func (r Ring) Identity(role Role) (sign.Identity, error) {
	cert, err := r.Certificate(role)
	if err != nil {
		return sign.Identity{}, err
	}
	key, err := r.Signer(role)
	return sign.Identity{Key: key, Cert: cert}, err
}

// recorded is the public half as the ring's files have it.
func (r Ring) recorded(role Role) (crypto.PublicKey, error) {
	if role.certified() {
		cert, err := sign.LoadCert(filepath.Join(r.Dir, role.certFile()))
		if err != nil {
			return nil, err
		}
		return cert.PublicKey, nil
	}
	path := filepath.Join(r.Dir, role.publicFile())
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read public key: %w", err)
	}
	pub, err := ParsePublic(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return pub, nil
}

// fits checks that a key is of the kind that its users can verify.
func (r Role) fits(pub crypto.PublicKey) error {
	ok := false
	switch k := pub.(type) {
	case *rsa.PublicKey:
		ok = r.certified() && k.N.BitLen() == 2048
	case *ecdsa.PublicKey:
		ok = !r.certified() && k.Curve == elliptic.P256()
	}
	if !ok {
		return fmt.Errorf("key %s is not %s", r, r.Algorithm())
	}
	return nil
}

func same(a, b crypto.PublicKey) bool {
	eq, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && eq.Equal(b)
}

// parsePrivate reads PKCS #1, SEC 1 or PKCS #8.
func parsePrivate(der []byte) (crypto.Signer, error) {
	if k, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return k, nil
	}
	if k, err := x509.ParseECPrivateKey(der); err == nil {
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
