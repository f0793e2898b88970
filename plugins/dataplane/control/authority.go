package control

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

// Keys in the box's state store.
const (
	stateAuthority = "agents/authority"
	// The serial number is part of the key, so that one List is all it takes to know every host.
	stateHosts = "agents/host/"
)

// serverName is what every box's certificate says: a host knows its box by the authority in its file.
const serverName = "ratchet-dataplane"

// State is where the box keeps its authority; core/plugin.Host is one. Get answers nil for a key that is not there.
type State interface {
	Get(ctx context.Context, key string) ([]byte, error)
	Put(ctx context.Context, key string, value []byte) error
	Delete(ctx context.Context, key string) error
	List(ctx context.Context, prefix string) ([]string, error)
}

// Authority is a box's own certificate authority for hosts.
type Authority struct {
	state State
	cert  *x509.Certificate
	key   *ecdsa.PrivateKey

	mu      sync.Mutex
	serials map[string]string // of the one valid certificate of a host, by its name
	changed func(host string) // a host's certificate is void; may be nil
}

// OpenAuthority reads the authority, or makes it at the first time.
func OpenAuthority(ctx context.Context, s State) (*Authority, error) {
	a := &Authority{state: s, serials: map[string]string{}}
	stored, err := s.Get(ctx, stateAuthority)
	if err != nil {
		return nil, fmt.Errorf("open agent authority: %w", err)
	}
	if stored == nil {
		return a, a.create(ctx)
	}
	if a.cert, a.key, err = parsePair(stored); err != nil {
		return nil, fmt.Errorf("open agent authority: %w", err)
	}
	keys, err := s.List(ctx, stateHosts)
	if err != nil {
		return nil, fmt.Errorf("list enrolled hosts: %w", err)
	}
	for _, k := range keys {
		if name, serial, ok := strings.Cut(strings.TrimPrefix(k, stateHosts), "/"); ok {
			a.serials[name] = serial
		}
	}
	return a, nil
}

func (a *Authority) create(ctx context.Context) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make agent authority: %w", err)
	}
	template := certificate("ratchet dataplane agents")
	template.IsCA, template.BasicConstraintsValid, template.MaxPathLenZero = true, true, true
	template.KeyUsage = x509.KeyUsageCertSign
	if template.SerialNumber, err = newSerial(); err != nil {
		return err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return fmt.Errorf("make agent authority: %w", err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		return fmt.Errorf("make agent authority: %w", err)
	}
	a.key = key
	pair, err := encodePair(der, key)
	if err != nil {
		return err
	}
	if err := a.state.Put(ctx, stateAuthority, pair); err != nil {
		return fmt.Errorf("store agent authority: %w", err)
	}
	return nil
}

// Enroll makes a host's identity file, PEM. An earlier one of the same name is void from now on.
func (a *Authority) Enroll(ctx context.Context, name string) ([]byte, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	serial, der, key, err := a.issue(name, x509.ExtKeyUsageClientAuth)
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
	if err := a.state.Put(ctx, stateHosts+name+"/"+serial, []byte{1}); err != nil {
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
		return fmt.Errorf("revoke %s: no such host is enrolled; see `ratchetctl dataplane agent list`", name)
	}
	return a.forget(ctx, name)
}

// forget drops what is known of a host; a.mu is held.
func (a *Authority) forget(ctx context.Context, name string) error {
	serial, ok := a.serials[name]
	if !ok {
		return nil
	}
	if err := a.state.Delete(ctx, stateHosts+name+"/"+serial); err != nil {
		return fmt.Errorf("forget enrolment of %s: %w", name, err)
	}
	delete(a.serials, name)
	if a.changed != nil {
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

// watch sets who is told, with the authority locked, that a host's certificate is void.
func (a *Authority) watch(changed func(host string)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.changed = changed
}

// valid says whether this verified certificate is the one its host has now.
func (a *Authority) valid(cert *x509.Certificate) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	serial, ok := a.serials[cert.Subject.CommonName]
	return ok && serial == hex.EncodeToString(cert.SerialNumber.Bytes())
}

// serverTLS makes the box's side with a key of its own that nobody keeps.
func (a *Authority) serverTLS() (*tls.Config, error) {
	_, der, key, err := a.issue(serverName, x509.ExtKeyUsageServerAuth)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		ClientAuth:   tls.RequireAndVerifyClientCert, ClientCAs: pool,
		MinVersion: tls.VersionTLS13, SessionTicketsDisabled: true, Time: timeless,
	}, nil
}

func (a *Authority) issue(name string, usage x509.ExtKeyUsage) (serial string, der []byte, key *ecdsa.PrivateKey, err error) {
	template := certificate(name)
	if template.SerialNumber, err = newSerial(); err != nil {
		return "", nil, nil, err
	}
	template.KeyUsage, template.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{usage}
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
