package client

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"github.com/ratchetos/ratchet/core/api/apipb"
	"github.com/ratchetos/ratchet/core/api/pki"
)

// Credentials are what a login leaves behind: the box's CA, our certificate, our key (PEM).
type Credentials struct {
	CA, Certificate, Key []byte
}

// LoginOptions say which box is expected and who we are.
type LoginOptions struct {
	Address  string
	Token    string
	CASHA256 string // hex, printed by the box
	Name     string // common name of the certificate
}

// Login trades a one-time token for credentials. Nothing is sent before the server has
// shown that it belongs to the CA with the given digest.
func Login(ctx context.Context, opts LoginOptions) (*Credentials, string, error) {
	network, address, err := ParseAddress(opts.Address)
	if err != nil {
		return nil, "", err
	}
	if network != "tcp" {
		return nil, "", fmt.Errorf("login to %s: the local socket knows who you are; no login is needed", opts.Address)
	}
	pin := strings.ToLower(strings.ReplaceAll(opts.CASHA256, ":", ""))
	if raw, err := hex.DecodeString(pin); err != nil || len(raw) != 32 {
		return nil, "", errors.New("login: --ca-sha256 is not a SHA-256 in hex; copy the whole command that the box prints")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, "", fmt.Errorf("make key: %w", err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: opts.Name},
	}, key)
	if err != nil {
		return nil, "", fmt.Errorf("make certificate request: %w", err)
	}
	c := build(network, address, pinned(pin))
	defer c.Close()
	reply, err := c.Access.Enrol(ctx, &apipb.EnrolRequest{Token: opts.Token, Csr: csr})
	if err != nil {
		return nil, "", err
	}
	if pki.Fingerprint(reply.GetCa()) != pin {
		return nil, "", errors.New("login: the box sent another CA than the one it proved to own")
	}
	encoded, err := pki.EncodeKey(key)
	if err != nil {
		return nil, "", err
	}
	return &Credentials{
		CA:          pki.EncodeCertificate(reply.GetCa()),
		Certificate: pki.EncodeCertificate(reply.GetCertificate()),
		Key:         encoded,
	}, reply.GetRole(), nil
}

// pinned verifies a server whose CA we know by digest only: the server sends the CA along.
func pinned(pin string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		// crypto/tls cannot verify against a digest; VerifyConnection does all of it instead.
		InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			roots := x509.NewCertPool()
			for _, c := range state.PeerCertificates[1:] {
				if pki.Fingerprint(c.Raw) == pin {
					roots.AddCert(c)
				}
			}
			_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, DNSName: pki.ServerName})
			if err != nil {
				return fmt.Errorf("this is not the box whose --ca-sha256 was given: %w", err)
			}
			return nil
		},
	}
}

// Ends is when the certificate ends; the zero time if it cannot be read.
func (c *Credentials) Ends() time.Time {
	cert, err := pki.ParseCertificate(c.Certificate)
	if err != nil {
		return time.Time{}
	}
	return cert.NotAfter
}

func (c *Credentials) tls() (*tls.Config, error) {
	pair, err := tls.X509KeyPair(c.Certificate, c.Key)
	if err != nil {
		return nil, fmt.Errorf("read credentials: %w", err)
	}
	// The box would only hang up.
	if end := c.Ends(); time.Now().After(end) {
		return nil, fmt.Errorf("the certificate of this login ended on %s; get a new token (on the box: ratchetctl token) and log in again", end.Format(time.DateOnly))
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(c.CA) {
		return nil, errors.New("read credentials: no CA certificate")
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{pair},
		RootCAs:      roots,
		ServerName:   pki.ServerName,
	}, nil
}

// Save writes the credentials into a directory of their own.
func (c *Credentials) Save(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make credentials directory: %w", err)
	}
	for name, data := range c.files() {
		if err := renameio.WriteFile(filepath.Join(dir, name), *data, 0o600); err != nil {
			return fmt.Errorf("save credentials: %w", err)
		}
	}
	return nil
}

// Load reads what Save wrote.
func Load(dir string) (*Credentials, error) {
	c := &Credentials{}
	for name, data := range c.files() {
		var err error
		if *data, err = os.ReadFile(filepath.Join(dir, name)); err != nil {
			return nil, fmt.Errorf("load credentials: %w", err)
		}
	}
	return c, nil
}

func (c *Credentials) files() map[string]*[]byte {
	return map[string]*[]byte{"ca.crt": &c.CA, "client.crt": &c.Certificate, "client.key": &c.Key}
}
