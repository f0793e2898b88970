package nbd_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/plugins/gateway/nbd"
	"github.com/ratchetos/ratchet/plugins/gateway/nbd/nbdtest"
)

// identity returns a self-signed certificate and the pool that trusts it.
func identity(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"nbd"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	check(t, err)
	leaf, err := x509.ParseCertificate(der)
	check(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

func TestTLS(t *testing.T) {
	cert, pool := identity(t)
	srv := serve(t, nbdtest.NewMemory(8*mib), func(s *nbd.Server, _ *nbd.Export) {
		s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}
		s.HandshakeTimeout = 2 * time.Second
	})
	client := &tls.Config{RootCAs: pool, ServerName: "nbd", Certificates: []tls.Certificate{cert}}
	c := srv.dial(t, nbdtest.Options{TLS: client, Meta: true})
	data := make([]byte, 4*mib)
	rand.Read(data)
	check(t, c.Write(0, data, false))
	if got := must[[]byte](t)(c.Read(0, uint32(len(data)))); string(got) != string(data) {
		t.Fatal("data differ")
	}
	check(t, c.Flush())
	check(t, c.Close())

	if _, err := nbdtest.Dial(t.Context(), "unix", srv.addr, "vol", nbdtest.Options{}); err == nil || !strings.Contains(err.Error(), "error 5") {
		t.Errorf("client in the clear: %v, want TLS_REQD", err)
	}
	stranger := &tls.Config{RootCAs: pool, ServerName: "nbd"}
	if _, err := nbdtest.Dial(t.Context(), "unix", srv.addr, "vol", nbdtest.Options{TLS: stranger}); err == nil {
		t.Error("client without a certificate was served")
	}
}

// TestStartTLSInjection puts an option into the segment of STARTTLS. Whoever can write on
// the wire could have added it, so it must not be taken for the client's.
func TestStartTLSInjection(t *testing.T) {
	cert, _ := identity(t)
	srv := serve(t, nbdtest.NewMemory(mib), func(s *nbd.Server, _ *nbd.Export) {
		s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
		s.HandshakeTimeout = 2 * time.Second
	})
	conn := must[net.Conn](t)(net.Dial("unix", srv.addr))
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	hello := make([]byte, 18)
	must[int](t)(conn.Read(hello))
	msg := "\x00\x00\x00\x03" + "IHAVEOPT\x00\x00\x00\x05\x00\x00\x00\x00" + "IHAVEOPT\x00\x00\x00\x03\x00\x00\x00\x00"
	must[int](t)(conn.Write([]byte(msg)))
	buf := make([]byte, 100)
	n := must[int](t)(conn.Read(buf))
	if n != 20 {
		t.Fatalf("%d bytes of answer, want the acknowledgement", n)
	}
	if n, err := conn.Read(buf); err == nil {
		t.Fatalf("server goes on: %q", buf[:n])
	}
}
