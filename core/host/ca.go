package host

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"sync"
	"time"

	"github.com/ratchetos/ratchet/core/plugin/wire"
)

// authority is the certificate authority of this boot. Its key never leaves the process
// and is gone with it. go-plugin's AutoMTLS would cost 42 ms a start (P-521 on both sides)
// and rule out coming back to a running plugin; P-256 costs less than one.
type authority struct {
	key    *ecdsa.PrivateKey
	cert   *x509.Certificate
	client tls.Certificate // core's own, for client authentication

	mu      sync.Mutex
	plugins map[string]leaf
}

// leaf is a plugin's server certificate; it serves all processes of the plugin.
type leaf struct {
	cert, key []byte
}

// The certificates are of one boot and of no use after it, so their time is all time (RFC 5280, 4.1.2.5): a box with an empty
// battery starts in 1970, and its clock is set by decades while the first plugins start.
var firstDay, lastDay = time.Unix(0, 0), time.Date(9999, time.December, 31, 23, 59, 59, 0, time.UTC)

func newAuthority() (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make host CA: %w", err)
	}
	tmpl := template("ratchet core")
	tmpl.IsCA, tmpl.BasicConstraintsValid = true, true
	tmpl.KeyUsage = x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("make host CA: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("make host CA: %w", err)
	}
	a := &authority{key: key, cert: cert, plugins: make(map[string]leaf)}
	own, ownKey, err := a.issue("core", x509.ExtKeyUsageClientAuth)
	if err != nil {
		return nil, err
	}
	a.client = tls.Certificate{Certificate: [][]byte{own}, PrivateKey: ownKey}
	return a, nil
}

func template(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    firstDay,
		NotAfter:     lastDay,
	}
}

func (a *authority) issue(name string, usage x509.ExtKeyUsage) ([]byte, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make certificate of %s: %w", name, err)
	}
	tmpl := template(name)
	tmpl.KeyUsage = x509.KeyUsageDigitalSignature
	tmpl.ExtKeyUsage = []x509.ExtKeyUsage{usage}
	tmpl.DNSNames = []string{name}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, &key.PublicKey, a.key)
	if err != nil {
		return nil, nil, fmt.Errorf("make certificate of %s: %w", name, err)
	}
	return der, key, nil
}

// bootstrap fills in the credentials of a plugin process.
func (a *authority) bootstrap(name string, b *wire.Bootstrap) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	l, ok := a.plugins[name]
	if !ok {
		der, key, err := a.issue(name, x509.ExtKeyUsageServerAuth)
		if err != nil {
			return err
		}
		l.cert = der
		if l.key, err = x509.MarshalPKCS8PrivateKey(key); err != nil {
			return fmt.Errorf("make certificate of %s: %w", name, err)
		}
		a.plugins[name] = l
	}
	b.Name, b.CA, b.Cert, b.Key = name, a.cert.Raw, l.cert, l.key
	return nil
}

// clientTLS is core's side of the connection to the named plugin.
func (a *authority) clientTLS(name string) *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		// Both ends are this box: nobody can record what would have to be safe from tomorrow's computers.
		CurvePreferences: []tls.CurveID{tls.CurveP256},
		ServerName:       name,
		RootCAs:          pool,
		Certificates:     []tls.Certificate{a.client},
	}
}
