package enrol

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
)

const (
	pemCertificate = "CERTIFICATE"
	pemKey         = "PRIVATE KEY"
	maxIdentity    = 64 << 10
)

// Identity is what a host has from its enrolment at one box.
type Identity struct {
	// Name is the host's, as the box knows it.
	Name string
	cert tls.Certificate
	ca   *x509.Certificate
	pool *x509.CertPool
}

// ReadIdentity reads a file that was printed by command when the host was enrolled.
func ReadIdentity(path, command string) (*Identity, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read identity: %w; `%s` prints one", err, command)
	}
	id, err := ParseIdentity(b)
	if err != nil {
		return nil, fmt.Errorf("read identity %s: %w", path, err)
	}
	return id, nil
}

// ParseIdentity takes the host's certificate, its key and the box's authority from PEM, in this order.
func ParseIdentity(b []byte) (*Identity, error) {
	if len(b) > maxIdentity {
		return nil, fmt.Errorf("%d bytes: not an identity file", len(b))
	}
	cert, key, err := parsePair(b)
	if err != nil {
		return nil, err
	}
	var certs []*x509.Certificate
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != pemCertificate {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("parse certificate: %w", err)
		}
		certs = append(certs, c)
	}
	if len(certs) != 2 || !certs[1].IsCA {
		return nil, errors.New("the box's authority is missing: copy the whole file")
	}
	if err := CheckName(cert.Subject.CommonName); err != nil {
		return nil, err
	}
	id := &Identity{Name: cert.Subject.CommonName, ca: certs[1], pool: x509.NewCertPool()}
	id.cert = tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
	id.pool.AddCert(certs[1])
	return id, nil
}

// ClientTLS is the host's side of a connection to its box.
func (id *Identity) ClientTLS(box string) *tls.Config {
	c := id.config()
	c.RootCAs, c.ServerName = id.pool, box
	return c
}

// ServerTLS is the host's side of connections that its box opens. Nobody else is let in, not another host either.
func (id *Identity) ServerTLS(box string) *tls.Config {
	c := id.config()
	c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, id.pool
	c.VerifyConnection = func(s tls.ConnectionState) error {
		if name := s.PeerCertificates[0].Subject.CommonName; name != box {
			return fmt.Errorf("%s is not the box", name)
		}
		return nil
	}
	return c
}

func (id *Identity) config() *tls.Config {
	return &tls.Config{
		Certificates: []tls.Certificate{id.cert}, MinVersion: tls.VersionTLS13, SessionTicketsDisabled: true, Time: timeless,
	}
}

// PEM returns the parts of the file, for programs that want them apart.
func (id *Identity) PEM() (certificate, key, authority []byte, err error) {
	k, err := x509.MarshalPKCS8PrivateKey(id.cert.PrivateKey)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("encode key: %w", err)
	}
	block := func(kind string, b []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}) }
	return block(pemCertificate, id.cert.Certificate[0]), block(pemKey, k), block(pemCertificate, id.ca.Raw), nil
}

// encodePair writes a certificate and its key as PEM.
func encodePair(der []byte, key *ecdsa.PrivateKey) ([]byte, error) {
	k, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	b := pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: der})
	return append(b, pem.EncodeToMemory(&pem.Block{Type: pemKey, Bytes: k})...), nil
}

// parsePair finds the first certificate and the first key.
func parsePair(b []byte) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	var cert *x509.Certificate
	var key *ecdsa.PrivateKey
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		var err error
		switch {
		case block.Type == pemCertificate && cert == nil:
			if cert, err = x509.ParseCertificate(block.Bytes); err != nil {
				return nil, nil, fmt.Errorf("parse certificate: %w", err)
			}
		case block.Type == pemKey && key == nil:
			k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
			if err != nil {
				return nil, nil, fmt.Errorf("parse key: %w", err)
			}
			key, _ = k.(*ecdsa.PrivateKey)
		}
	}
	if cert == nil || key == nil {
		return nil, nil, errors.New("no certificate with a P-256 key in it")
	}
	if pub, ok := cert.PublicKey.(*ecdsa.PublicKey); !ok || !pub.Equal(key.Public()) {
		return nil, nil, errors.New("the key does not belong to the certificate")
	}
	return cert, key, nil
}
