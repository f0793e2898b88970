package enrol

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"sync"
	"time"
)

// maxHosts bounds how many hosts may be enrolled.
const maxHosts = 16384

// Use is what hosts are enrolled for.
type Use struct {
	// Prefix of the keys in the box's state store, with its slash.
	Prefix string
	// Authority and Box are the names in the certificates of the authority and of the box itself. A host knows its box by
	// the authority, so every box has the same.
	Authority, Box string
	// HostServes tells that the box connects to hosts, and hosts to each other; otherwise hosts connect to the box.
	HostServes bool
	// Command lists the enrolled hosts; errors name it.
	Command string
}

func (u Use) authorityKey() string { return u.Prefix + "authority" }

// hostKeys is where hosts are kept. The serial number is part of the key, so that one List is all it takes to know every
// host.
func (u Use) hostKeys() string { return u.Prefix + "host/" }

func (u Use) hostUsage() []x509.ExtKeyUsage {
	if u.HostServes {
		return []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	}
	return []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
}

// State is where the box keeps its authority; core/plugin.Host is one. Get answers nil for a key that is not there.
type State interface {
	Get(ctx context.Context, key string) ([]byte, error)
	Put(ctx context.Context, key string, value []byte) error
	Delete(ctx context.Context, key string) error
	List(ctx context.Context, prefix string) ([]string, error)
}

// Authority is a box's own certificate authority for hosts.
type Authority struct {
	use   Use
	state State
	cert  *x509.Certificate
	key   *ecdsa.PrivateKey

	mu      sync.Mutex
	serials map[string]string // of the one valid certificate of a host, by its name
	changed func(host string) // a host's certificate is void; may be nil
}

// Open reads the authority of a use, or makes it at the first time.
func Open(ctx context.Context, s State, use Use) (*Authority, error) {
	a := &Authority{use: use, state: s, serials: map[string]string{}}
	stored, err := s.Get(ctx, use.authorityKey())
	if err != nil {
		return nil, fmt.Errorf("open host authority: %w", err)
	}
	if stored == nil {
		return a, a.create(ctx)
	}
	if a.cert, a.key, err = parsePair(stored); err != nil {
		return nil, fmt.Errorf("open host authority: %w", err)
	}
	keys, err := s.List(ctx, use.hostKeys())
	if err != nil {
		return nil, fmt.Errorf("list enrolled hosts: %w", err)
	}
	for _, k := range keys {
		if name, serial, ok := strings.Cut(strings.TrimPrefix(k, use.hostKeys()), "/"); ok {
			a.serials[name] = serial
		}
	}
	return a, nil
}

func (a *Authority) create(ctx context.Context) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make host authority: %w", err)
	}
	template := certificate(a.use.Authority)
	template.IsCA, template.BasicConstraintsValid, template.MaxPathLenZero = true, true, true
	template.KeyUsage = x509.KeyUsageCertSign
	if template.SerialNumber, err = newSerial(); err != nil {
		return err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return fmt.Errorf("make host authority: %w", err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		return fmt.Errorf("make host authority: %w", err)
	}
	a.key = key
	pair, err := encodePair(der, key)
	if err != nil {
		return err
	}
	if err := a.state.Put(ctx, a.use.authorityKey(), pair); err != nil {
		return fmt.Errorf("store host authority: %w", err)
	}
	return nil
}

// Enroll makes a host's identity file, PEM. An earlier one of the same name is void from now on.
func (a *Authority) Enroll(ctx context.Context, name string) ([]byte, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	serial, der, key, err := a.issue(name, a.use.hostUsage()...)
	if err != nil {
		return nil, err
	}
	pair, err := encodePair(der, key)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, again := a.serials[name]; !again && len(a.serials) >= maxHosts {
		return nil, fmt.Errorf("enroll %s: %d hosts are enrolled already, the most there can be", name, maxHosts)
	}
	// A crash between the two leaves the host without a valid file, never with two.
	if err := a.forget(ctx, name); err != nil {
		return nil, err
	}
	if err := a.state.Put(ctx, a.use.hostKeys()+name+"/"+serial, []byte{1}); err != nil {
		return nil, fmt.Errorf("store enrolment of %s: %w", name, err)
	}
	a.serials[name] = serial
	return append(pair, pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: a.cert.Raw})...), nil
}

// Revoke makes a host's file void and ends its session.
func (a *Authority) Revoke(ctx context.Context, name string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, ok := a.serials[name]; !ok {
		return fmt.Errorf("revoke %s: no such host is enrolled; see `%s`", name, a.use.Command)
	}
	return a.forget(ctx, name)
}

// forget drops what is stored of a host; a.mu is held. There may be more than is known: of an enrolment that was
// interrupted nobody has the file, and the next start must not take it for the valid one.
func (a *Authority) forget(ctx context.Context, name string) error {
	keys, err := a.state.List(ctx, a.use.hostKeys()+name+"/")
	for _, k := range keys {
		err = errors.Join(err, a.state.Delete(ctx, k))
	}
	if err != nil {
		return fmt.Errorf("forget enrolment of %s: %w", name, err)
	}
	_, known := a.serials[name]
	delete(a.serials, name)
	if known && a.changed != nil {
		a.changed(name)
	}
	return nil
}

// Names lists the enrolled hosts, sorted.
func (a *Authority) Names() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	names := make([]string, 0, len(a.serials))
	for n := range a.serials {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// Watch sets who is told, with the authority locked, that a host's certificate is void.
func (a *Authority) Watch(changed func(host string)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.changed = changed
}

// Valid says whether this verified certificate is the one its host has now.
func (a *Authority) Valid(cert *x509.Certificate) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	serial, ok := a.serials[cert.Subject.CommonName]
	return ok && serial == hex.EncodeToString(cert.SerialNumber.Bytes())
}

// ServerTLS makes the box's side of connections that hosts open, with a key of its own that nobody keeps. The caller asks
// Valid once it knows the host.
func (a *Authority) ServerTLS() (*tls.Config, error) {
	c, pool, err := a.box(x509.ExtKeyUsageServerAuth)
	if err != nil {
		return nil, err
	}
	c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, pool
	return c, nil
}

// ClientTLS makes the box's side of connections to a host. A host whose file is void is refused.
func (a *Authority) ClientTLS(host string) (*tls.Config, error) {
	c, pool, err := a.box(x509.ExtKeyUsageClientAuth)
	if err != nil {
		return nil, err
	}
	c.RootCAs, c.ServerName = pool, host
	c.VerifyConnection = func(s tls.ConnectionState) error {
		if !a.Valid(s.PeerCertificates[0]) {
			return fmt.Errorf("host %s has a file that was revoked or replaced: give it the newest one; see `%s`", host, a.use.Command)
		}
		return nil
	}
	return c, nil
}

func (a *Authority) box(usage x509.ExtKeyUsage) (*tls.Config, *x509.CertPool, error) {
	_, der, key, err := a.issue(a.use.Box, usage)
	if err != nil {
		return nil, nil, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		MinVersion:   tls.VersionTLS13, SessionTicketsDisabled: true, Time: timeless,
	}, pool, nil
}

func (a *Authority) issue(name string, usage ...x509.ExtKeyUsage) (serial string, der []byte, key *ecdsa.PrivateKey, err error) {
	template := certificate(name)
	if template.SerialNumber, err = newSerial(); err != nil {
		return "", nil, nil, err
	}
	template.KeyUsage, template.ExtKeyUsage = x509.KeyUsageDigitalSignature, usage
	template.DNSNames = []string{name}
	if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return "", nil, nil, fmt.Errorf("make key of %s: %w", name, err)
	}
	if der, err = x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key); err != nil {
		return "", nil, nil, fmt.Errorf("sign certificate of %s: %w", name, err)
	}
	return hex.EncodeToString(template.SerialNumber.Bytes()), der, key, nil
}

// certificate is one without an end. An appliance without a clock makes and checks it just the same.
func certificate(name string) *x509.Certificate {
	return &x509.Certificate{
		Subject:   pkix.Name{CommonName: name},
		NotBefore: time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:  time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
	}
}

// timeless is the time at which certificates are checked.
func timeless() time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) }

func newSerial() (*big.Int, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fmt.Errorf("make serial number: %w", err)
	}
	return serial.SetBit(serial, 120, 1), nil // of one length, never 0
}

// CheckName says why a host cannot have this name: it is a DNS label in lower case.
func CheckName(name string) error {
	if name == "" || len(name) > 63 || name[0] == '-' || name[len(name)-1] == '-' {
		return errors.New("a host's name has 1 to 63 letters, digits and dashes, and no dash at its ends")
	}
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return fmt.Errorf("host name %q holds %q: use lower-case letters, digits and dashes", name, c)
		}
	}
	return nil
}
