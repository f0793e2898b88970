package keys

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"
)

// markerText is what somebody finds who wonders about the folder.
const markerText = "These keys were made by a build for the machine it ran on. Nobody guards them: they never sign a release.\n"

// Development returns the ring of development keys in dir ("" for DevelopmentDir) and makes those
// that are missing; made names them.
func Development(dir string) (r Ring, made []Role, err error) {
	if dir == "" {
		if dir, err = DevelopmentDir(); err != nil {
			return Ring{}, nil, err
		}
	}
	r = Ring{Dir: dir}
	err = r.locked(func() error {
		if m := filepath.Join(dir, marker); !exists(m) {
			if err := write(m, []byte(markerText), 0o644); err != nil {
				return err
			}
		}
		made, err = r.fill(developmentName, SecureBoot, Policy, PolicySpare, Bundle, Plugin, Owner)
		return err
	})
	return r, made, err
}

// Create makes a whole ring of keys that are nobody's but the caller's, in a folder without any.
// name is the vendor's, for the certificates.
func Create(dir, name string) (r Ring, err error) {
	r = Ring{Dir: dir}
	err = r.locked(func() error {
		for _, role := range Roles() {
			if r.Has(role) {
				return fmt.Errorf("make keys: %s has a key %s already; choose another folder", dir, role)
			}
		}
		_, err := r.fill(name, Roles()...)
		return err
	})
	if err != nil {
		return r, err
	}
	// Now, since PK and KEK go to a safe next.
	_, err = r.Enrolment()
	return r, err
}

// Adopt records the key that a URI names as a role's: public half or certificate beside a file with
// the URI, so that nobody has to name it again. name is the vendor's, for the certificate.
func (r Ring) Adopt(role Role, uri, name string) error {
	return r.locked(func() error {
		if r.Has(role) {
			return fmt.Errorf("adopt key %s: %s has one already; choose another folder or rotate it", role, r.Dir)
		}
		f, err := adopted(role, uri, name)
		if err != nil {
			return err
		}
		return r.keep(role, f)
	})
}

// halves are what a ring keeps of a role.
type halves struct{ private, half []byte }

// adopted are the files of a role whose key is on a token.
func adopted(role Role, uri, name string) (halves, error) {
	if !strings.HasPrefix(uri, scheme) {
		return halves{}, fmt.Errorf("adopt key %s: %w: it does not begin with %q", role, ErrURI, scheme)
	}
	key, err := openURI(uri)
	if err != nil {
		return halves{}, fmt.Errorf("adopt key %s: %w", role, err)
	}
	if err := role.fits(key.Public()); err != nil {
		return halves{}, fmt.Errorf("adopt key: %w", err)
	}
	half, err := publicHalf(role, name, key)
	if err != nil {
		return halves{}, fmt.Errorf("adopt key %s: %w", role, err)
	}
	return halves{[]byte(uri + "\n"), half}, nil
}

func (r Ring) keep(role Role, f halves) error {
	return errors.Join(
		write(filepath.Join(r.Dir, role.keyFile()), f.private, 0o600),
		write(filepath.Join(r.Dir, role.half()), f.half, 0o644),
	)
}

// fill makes the keys that are missing.
func (r Ring) fill(name string, roles ...Role) (made []Role, err error) {
	for _, role := range roles {
		key, half := filepath.Join(r.Dir, role.keyFile()), filepath.Join(r.Dir, role.half())
		haveKey, haveHalf := exists(key), exists(half)
		// One half without the other is somebody's mistake, not a first build: a new pair would
		// silently orphan every box that knows the old one.
		if haveKey != haveHalf {
			only := key
			if haveHalf {
				only = half
			}
			return made, fmt.Errorf("key %s is incomplete: only %s exists; restore the other half or remove it", role, only)
		}
		if haveKey {
			continue
		}
		f, err := generated(role, name)
		if err != nil {
			return made, err
		}
		if err := r.keep(role, f); err != nil {
			return made, err
		}
		made = append(made, role)
	}
	return made, nil
}

// half is the file of the public half.
func (r Role) half() string {
	if r.certified() {
		return r.certFile()
	}
	return r.publicFile()
}

// generated are the files of a new key.
func generated(role Role, name string) (halves, error) {
	key, half, err := pair(role, name)
	if err != nil {
		return halves{}, fmt.Errorf("make key %s: %w", role, err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return halves{}, fmt.Errorf("make key %s: %w", role, err)
	}
	return halves{pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), half}, nil
}

// pair makes a key, and its certificate or public key as PEM.
func pair(role Role, name string) (crypto.Signer, []byte, error) {
	var key crypto.Signer
	var err error
	if role.certified() {
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	} else {
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		return nil, nil, err
	}
	half, err := publicHalf(role, name, key)
	return key, half, err
}

// publicHalf is the certificate or public key as PEM.
func publicHalf(role Role, name string, key crypto.Signer) ([]byte, error) {
	if !role.certified() {
		pub, err := EncodePublic(key.Public())
		return []byte(pub), err
	}
	cert, err := certify(role, name, key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), nil
}

// titles of the roles in certificates.
var titles = map[Role]string{SecureBoot: "Secure Boot key", PlatformKey: "platform key", ExchangeKey: "key exchange key"}

// certify returns the self-signed certificate, DER, that a Secure Boot key needs.
func certify(role Role, name string, key crypto.Signer) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	tmpl := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: name + " " + titles[role], Organization: []string{name}},
		NotBefore:             now.Add(-24 * time.Hour), // a box whose clock is a little behind
		NotAfter:              now.AddDate(10, 0, 0),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
		BasicConstraintsValid: true,
	}
	return x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
}

// locked runs f while no other process makes or moves keys in the folder.
func (r Ring) locked(f func() error) (err error) {
	if err := os.MkdirAll(r.Dir, 0o700); err != nil {
		return fmt.Errorf("make key folder: %w", err)
	}
	dir, err := os.Open(r.Dir)
	if err != nil {
		return fmt.Errorf("open key folder: %w", err)
	}
	defer func() { err = errors.Join(err, dir.Close()) }() // which gives the lock back
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock key folder %s: %w", r.Dir, err)
	}
	return f()
}

func write(path string, data []byte, mode os.FileMode) error {
	if err := renameio.WriteFile(path, data, mode); err != nil {
		return fmt.Errorf("write key file: %w", err)
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
