package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// clock is a hand-turned one.
type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

func newClock() *clock { return &clock{at: time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)} }

func request(t *testing.T, key any, name string) []byte {
	t.Helper()
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		// A client may ask for any role; only the token decides.
		Subject: pkix.Name{CommonName: name, OrganizationalUnit: []string{"admin"}},
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	return csr
}

func TestAuthorityIsKept(t *testing.T) {
	dir, c := filepath.Join(t.TempDir(), "pki"), newClock()
	first, err := Open(dir, Options{Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	again, err := Open(dir, Options{Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	if first.Fingerprint() != again.Fingerprint() || !bytes.Equal(first.server.Certificate[0], again.server.Certificate[0]) {
		t.Error("a second open made new certificates")
	}
	for _, name := range []string{"ca.key", "server.key"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v; want 0600", name, info.Mode(), err)
		}
	}

	// Near its end the server certificate is replaced, under the CA that clients pinned.
	c.at = c.at.Add(serverLife - time.Hour)
	later, err := Open(dir, Options{Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	if later.Fingerprint() != first.Fingerprint() {
		t.Error("the CA was replaced")
	}
	if bytes.Equal(first.server.Certificate[0], later.server.Certificate[0]) {
		t.Error("a worn server certificate was kept")
	}
}

func TestAuthorityRepairsServerButNotCA(t *testing.T) {
	for _, test := range []struct {
		file string
		ok   bool
	}{{"server.crt", true}, {"server.key", true}, {"ca.crt", false}, {"ca.key", false}} {
		dir := t.TempDir()
		if _, err := Open(dir, Options{}); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, test.file), []byte("torn"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Open(dir, Options{})
		if (err == nil) != test.ok {
			t.Errorf("torn %s: %v, want ok=%t", test.file, err, test.ok)
		}
	}
}

// shakes has a client connect that trusts the authority, with a certificate if it has one.
func shakes(a *Authority, c *clock, own ...tls.Certificate) error {
	roots := x509.NewCertPool()
	roots.AddCert(a.ca)
	ours, theirs := net.Pipe()
	served := make(chan error, 1)
	go func() {
		defer theirs.Close()
		served <- tls.Server(theirs, a.ServerTLS()).Handshake()
	}()
	client := tls.Client(ours, &tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: roots, ServerName: ServerName, Certificates: own, Time: c.now,
	})
	err := client.Handshake()
	ours.Close()
	return errors.Join(err, <-served)
}

// TestServerThatRunsForYears: clients are shown a certificate that is good, however long ago the box was started, and the
// same one for most of its life.
func TestServerThatRunsForYears(t *testing.T) {
	c := newClock()
	a, err := Open(t.TempDir(), Options{Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	for range 6 {
		if err := shakes(a, c); err != nil {
			t.Errorf("at %s: %v", c.at, err)
		}
		made := a.server.Leaf
		c.at = c.at.Add(serverLife / 2)
		if err := shakes(a, c); err != nil || a.server.Leaf != made {
			t.Errorf("at %s another certificate is served, or none: %v", c.at, err)
		}
		c.at = c.at.Add(serverLife/2 + time.Hour)
	}
}

// TestClockFarAhead: what was made while the clock was wrong is good once it is right.
func TestClockFarAhead(t *testing.T) {
	c := newClock()
	right := c.at
	c.at = right.AddDate(13, 0, 0)
	a, err := Open(t.TempDir(), Options{Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := a.Issue(request(t, key, "anna"), Admin)
	if err != nil {
		t.Fatal(err)
	}
	c.at = right
	if err := shakes(a, c, tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}); err != nil {
		t.Error(err)
	}
}

// TestServerWithoutRoom: a server certificate that cannot be stored is served all the same.
func TestServerWithoutRoom(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "server.crt", "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, Options{}); err != nil {
		t.Error(err)
	}
}

func TestClockBeforeFirstBoot(t *testing.T) {
	dir, c := t.TempDir(), &clock{at: time.Unix(0, 0)}
	a, err := Open(dir, Options{Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	c.at = time.Date(2029, 1, 1, 0, 0, 0, 0, time.UTC)
	if !a.ca.NotAfter.After(c.at) {
		t.Errorf("a CA made in 1970 ends %s", a.ca.NotAfter)
	}
}

func TestIssue(t *testing.T) {
	a, err := Open(t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	wide, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	weak, _ := rsa.GenerateKey(rand.Reader, 1024)
	good := request(t, key, "anna")
	forged := bytes.Clone(good)
	forged[len(forged)-1] ^= 1

	der, err := a.Issue(good, Viewer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	if got := RoleOf(cert); got != Viewer || cert.Subject.CommonName != "anna" || cert.IsCA {
		t.Errorf("issued %v for role %s, CA %t", cert.Subject, got, cert.IsCA)
	}
	for name, csr := range map[string][]byte{
		"forged": forged, "garbage": []byte("x"), "empty": nil, "P-384": request(t, wide, "a"),
		"RSA": request(t, weak, "a"), "no name": request(t, key, ""),
	} {
		if _, err := a.Issue(csr, Admin); err == nil {
			t.Errorf("%s request was signed", name)
		}
	}
	if _, err := a.Issue(good, None); err == nil {
		t.Error("a certificate without role was signed")
	}
}

func TestRoleOf(t *testing.T) {
	for want, units := range map[Role][]string{Admin: {"admin"}, Viewer: {"viewer"}, None: {"viewer", "admin"}} {
		if got := RoleOf(&x509.Certificate{Subject: pkix.Name{OrganizationalUnit: units}}); got != want {
			t.Errorf("units %v give %s, want %s", units, got, want)
		}
	}
	if got := RoleOf(&x509.Certificate{}); got != None {
		t.Errorf("no unit gives %s", got)
	}
}

func TestTokens(t *testing.T) {
	c := newClock()
	tokens := &Tokens{Now: c.now}
	one, err := tokens.Create(Operator, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	two, err := tokens.Create(Admin, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if role, err := tokens.Redeem(" " + one + "\n"); role != Operator || err != nil {
		t.Errorf("redeem = %s, %v", role, err)
	}
	if _, err := tokens.Redeem(one); !errors.Is(err, ErrToken) {
		t.Errorf("second use: %v, want ErrToken", err)
	}
	c.at = c.at.Add(time.Minute)
	if _, err := tokens.Redeem(two); !errors.Is(err, ErrToken) {
		t.Errorf("expired: %v, want ErrToken", err)
	}
	if _, err := tokens.Create(Admin, maxTokenTTL+1); err == nil {
		t.Error("a token for ever was made")
	}
	if _, err := tokens.Create(None, 0); err == nil {
		t.Error("a token without role was made")
	}
}

func TestGuessesAreLimited(t *testing.T) {
	c := newClock()
	tokens := &Tokens{Now: c.now}
	good, err := tokens.Create(Viewer, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for range guessBurst {
		if _, err := tokens.Redeem("guess"); !errors.Is(err, ErrToken) {
			t.Fatalf("guess: %v", err)
		}
	}
	if _, err := tokens.Redeem(good); !errors.Is(err, ErrBusy) {
		t.Errorf("after %d guesses: %v, want ErrBusy", guessBurst, err)
	}
	c.at = c.at.Add(guessRefill)
	if role, err := tokens.Redeem(good); role != Viewer || err != nil {
		t.Errorf("after a pause: %s, %v", role, err)
	}
}

func TestTokensAreBounded(t *testing.T) {
	c := newClock()
	tokens := &Tokens{Now: c.now}
	for range maxTokens {
		if _, err := tokens.Create(Viewer, time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := tokens.Create(Viewer, time.Minute); err == nil {
		t.Errorf("token %d was made", maxTokens+1)
	}
	c.at = c.at.Add(time.Minute)
	if _, err := tokens.Create(Viewer, time.Minute); err != nil {
		t.Errorf("after the others expired: %v", err)
	}
}
