package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// ServerName is the name in every box's server certificate; see the package comment.
const ServerName = "ratchet"

const (
	caLife     = 20 * 365 * 24 * time.Hour
	serverLife = 2 * 365 * 24 * time.Hour
	clientLife = 365 * 24 * time.Hour
)

// floor is the earliest time that is believed. A box with an empty clock battery starts in
// 1970, and a CA made then would have expired long ago once NTP has answered. It is also when
// all certificates begin: a battery may as well say 2040, and what was made then must be good
// once NTP has answered.
var floor = time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)

// Options of an authority. The zero value works.
type Options struct {
	// Now is the clock; time.Now when nil.
	Now func() time.Time
}

// Authority signs for one box.
type Authority struct {
	dir   string
	ca    *x509.Certificate
	caKey *ecdsa.PrivateKey
	now   func() time.Time

	mu     sync.Mutex
	server tls.Certificate
}

// Open loads the authority kept in dir and makes what is missing. The server certificate is
// made anew when it nears its end, also while it is served; the CA never is, because clients pin it.
func Open(dir string, opts Options) (*Authority, error) {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make authority directory: %w", err)
	}
	a := &Authority{dir: dir, now: func() time.Time {
		if now := opts.Now(); now.After(floor) {
			return now
		}
		return floor
	}}
	var err error
	if a.ca, a.caKey, err = readPair(dir, "ca"); errors.Is(err, fs.ErrNotExist) {
		err = a.makeCA(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("open certificate authority in %s: %w", dir, err)
	}
	if leaf, key, err := readPair(dir, "server"); err == nil && leaf.CheckSignatureFrom(a.ca) == nil {
		a.server = a.chain(leaf, key)
	}
	// One that cannot be read is no reason to stop: another can be made at any time.
	if _, err := a.certificate(nil); err != nil {
		return nil, fmt.Errorf("make server certificate in %s: %w", dir, err)
	}
	return a, nil
}

// chain sends the CA along, so that a client that knows only its digest can enrol.
func (a *Authority) chain(leaf *x509.Certificate, key *ecdsa.PrivateKey) tls.Certificate {
	return tls.Certificate{Certificate: [][]byte{leaf.Raw, a.ca.Raw}, PrivateKey: key, Leaf: leaf}
}

// certificate is the server's for one connection; a box may run for longer than a certificate lasts.
func (a *Authority) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.server.Leaf == nil || a.worn(a.server.Leaf) {
		leaf, key, err := a.makeServer()
		if err != nil {
			return nil, err
		}
		a.server = a.chain(leaf, key)
	}
	server := a.server
	return &server, nil
}

// worn reports whether less than a quarter of a server certificate's life is left. When it began says nothing of that.
func (a *Authority) worn(c *x509.Certificate) bool {
	now := a.now()
	return now.Before(c.NotBefore) || c.NotAfter.Sub(now) < serverLife/4
}

func (a *Authority) makeCA(dir string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	t := a.template(pkix.Name{CommonName: "ratchet appliance CA"}, caLife)
	t.IsCA, t.BasicConstraintsValid, t.MaxPathLenZero = true, true, true
	t.KeyUsage = x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return err
	}
	if a.ca, err = x509.ParseCertificate(der); err != nil {
		return err
	}
	a.caKey = key
	return writePair(dir, "ca", der, key)
}

func (a *Authority) makeServer() (*x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	t := a.template(pkix.Name{CommonName: ServerName}, serverLife)
	t.DNSNames = []string{ServerName}
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	der, err := x509.CreateCertificate(rand.Reader, t, a.ca, &key.PublicKey, a.caKey)
	if err != nil {
		return nil, nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, err
	}
	// Without room on the disk this one ends with the run, and the next run makes its own.
	_ = writePair(a.dir, "server", der, key)
	return leaf, key, nil
}

// Issue signs a client's request for a role and returns the certificate in DER. Only the
// public key and the common name are taken from the request.
func (a *Authority) Issue(csr []byte, role Role) ([]byte, error) {
	if role < Viewer || role > Admin {
		return nil, fmt.Errorf("issue certificate: role %d does not exist", role)
	}
	req, err := x509.ParseCertificateRequest(csr)
	if err != nil {
		return nil, fmt.Errorf("read certificate request: %w", err)
	}
	if err := req.CheckSignature(); err != nil {
		return nil, fmt.Errorf("check certificate request: %w", err)
	}
	pub, ok := req.PublicKey.(*ecdsa.PublicKey)
	if !ok || pub.Curve != elliptic.P256() {
		return nil, errors.New("check certificate request: want a P-256 key")
	}
	name := req.Subject.CommonName
	if name == "" || len(name) > 64 {
		return nil, errors.New("check certificate request: want a common name of 1 to 64 bytes")
	}
	t := a.template(pkix.Name{CommonName: name, OrganizationalUnit: []string{role.String()}}, clientLife)
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	return x509.CreateCertificate(rand.Reader, t, a.ca, pub, a.caKey)
}

func (a *Authority) template(name pkix.Name, life time.Duration) *x509.Certificate {
	var serial [16]byte
	rand.Read(serial[:]) // never fails: crypto/rand
	return &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial[:]),
		Subject:      name,
		NotBefore:    floor,
		NotAfter:     a.now().Add(life),
		KeyUsage:     x509.KeyUsageDigitalSignature,
	}
}

// ServerTLS asks clients for a certificate but lets them in without: enrolment needs a
// connection before there is one. Whoever serves must check the role of every call.
func (a *Authority) ServerTLS() *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(a.ca)
	return &tls.Config{
		MinVersion:     tls.VersionTLS13,
		GetCertificate: a.certificate,
		ClientAuth:     tls.VerifyClientCertIfGiven,
		ClientCAs:      pool,
		Time:           a.now,
	}
}

// CA returns the CA certificate in DER.
func (a *Authority) CA() []byte { return a.ca.Raw }

// Fingerprint is the SHA-256 of the CA certificate in hex, which a client pins at its login.
func (a *Authority) Fingerprint() string { return Fingerprint(a.ca.Raw) }

// Fingerprint is the SHA-256 of a certificate in DER, in hex.
func Fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

func pairPaths(dir, name string) (cert, key string) {
	return filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")
}
