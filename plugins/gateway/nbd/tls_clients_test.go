package nbd_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/plugins/gateway/nbd"
	"github.com/ratchetos/ratchet/plugins/gateway/nbd/nbdtest"
)

// authority is a CA that makes certificates as libnbd and QEMU want them.
type authority struct {
	t    *testing.T
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t *testing.T, name string) authority {
	a := authority{t: t}
	a.key, a.cert = a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	return a
}

// sign makes a certificate; the authority's own signs itself.
func (a authority) sign(c *x509.Certificate) (*ecdsa.PrivateKey, *x509.Certificate) {
	a.t.Helper()
	key := must[*ecdsa.PrivateKey](a.t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	c.SerialNumber = must[*big.Int](a.t)(rand.Int(rand.Reader, big.NewInt(1<<62)))
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := c, key
	if a.cert != nil {
		parent, signer = a.cert, a.key
	}
	der := must[[]byte](a.t)(x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer))
	return key, must[*x509.Certificate](a.t)(x509.ParseCertificate(der))
}

func (a authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// server returns what a server at 127.0.0.1 shows.
func (a authority) server() tls.Certificate {
	key, cert := a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "gateway"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
}

// client writes a folder with the names that libnbd and QEMU look for: a certificate of a, and trust as the CA.
func (a authority) client(trust authority) (dir string) {
	key, cert := a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "client"}, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	dir = a.t.TempDir()
	private := must[[]byte](a.t)(x509.MarshalPKCS8PrivateKey(key))
	for name, b := range map[string]*pem.Block{
		"ca-cert.pem": {Type: "CERTIFICATE", Bytes: trust.cert.Raw}, "client-cert.pem": {Type: "CERTIFICATE", Bytes: cert.Raw},
		"client-key.pem": {Type: "PRIVATE KEY", Bytes: private},
	} {
		check(a.t, os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(b), 0o600))
	}
	return dir
}

// serveTLS serves a volume at 127.0.0.1.
func serveTLS(t *testing.T, b nbd.Backend, ca authority, optional bool) (port int) {
	t.Helper()
	set := new(nbd.Set)
	check(t, set.Add(&nbd.Export{Name: "vol", Backend: b}))
	s := &nbd.Server{
		Exports: set, TLSOptional: optional, HandshakeTimeout: 5 * time.Second,
		TLS: &tls.Config{Certificates: []tls.Certificate{ca.server()}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.pool()},
	}
	l := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		check(t, <-done)
	})
	return l.Addr().(*net.TCPAddr).Port
}

// refused runs a client program that has to fail.
func refused(t *testing.T, name string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err == nil {
		t.Errorf("%s %s was served:\n%s", name, strings.Join(args, " "), out)
	}
	if err != nil && !errors.As(err, new(*exec.ExitError)) {
		t.Fatal(err)
	}
}

// TestClientTLS lets libnbd and QEMU in with the right certificates and nobody else, and copies much
// data through TLS.
func TestClientTLS(t *testing.T) {
	const size = 24 * mib
	ca, other := newAuthority(t, "ca"), newAuthority(t, "other")
	good, stranger, deceived := ca.client(ca), other.client(ca), ca.client(other)
	image := withHoles(t, size)
	port := serveTLS(t, nbdtest.NewMemory(size), ca, false)
	uri := func(dir string) string { return fmt.Sprintf("nbds://127.0.0.1:%d/vol?tls-certificates=%s", port, dir) }
	qemu := func(dir string) []string {
		return []string{
			"--object", "tls-creds-x509,id=t,endpoint=client,dir=" + dir, "--image-opts",
			fmt.Sprintf("driver=raw,file.driver=nbd,file.server.type=inet,file.server.host=127.0.0.1,file.server.port=%d,file.export=vol,file.tls-creds=t", port),
		}
	}

	if out := run(t, "nbdinfo", uri(good)); !strings.Contains(out, "with TLS") {
		t.Errorf("nbdinfo does not see TLS:\n%s", out)
	}
	run(t, "nbdcopy", "--connections=4", image, uri(good))
	back := filepath.Join(t.TempDir(), "back")
	run(t, "nbdcopy", uri(good), back)
	run(t, "cmp", image, back)
	run(t, "qemu-img", append([]string{"info"}, qemu(good)...)...)
	check(t, os.Truncate(back, 0))
	run(t, "qemu-img", append([]string{"convert", "-O", "raw"}, append(qemu(good), back)...)...)
	run(t, "cmp", image, back)

	for name, dir := range map[string]string{"a certificate of another authority": stranger, "no trust in ours": deceived} {
		t.Run(name, func(t *testing.T) {
			refused(t, "nbdinfo", uri(dir))
			refused(t, "qemu-img", append([]string{"info"}, qemu(dir)...)...)
		})
	}
	t.Run("in the clear", func(t *testing.T) {
		refused(t, "nbdinfo", fmt.Sprintf("nbd://127.0.0.1:%d/vol", port))
		refused(t, "nbdinfo", "--list", fmt.Sprintf("nbd://127.0.0.1:%d", port))
		refused(t, "qemu-img", "info", fmt.Sprintf("nbd://127.0.0.1:%d/vol", port))
	})
	t.Run("as the server's name", func(t *testing.T) {
		refused(t, "nbdinfo", strings.Replace(uri(good), "127.0.0.1", "127.0.0.2", 1))
	})
}

// TestClientTLSOptional serves both kinds of clients.
func TestClientTLSOptional(t *testing.T) {
	ca := newAuthority(t, "ca")
	port := serveTLS(t, nbdtest.NewMemory(mib), ca, true)
	plain, secure := fmt.Sprintf("nbd://127.0.0.1:%d/vol", port), fmt.Sprintf("nbds://127.0.0.1:%d/vol?tls-certificates=%s", port, ca.client(ca))
	if out := run(t, "nbdinfo", plain); !strings.Contains(out, "without TLS") {
		t.Errorf("in the clear:\n%s", out)
	}
	if out := run(t, "nbdinfo", secure); !strings.Contains(out, "with TLS") {
		t.Errorf("with TLS:\n%s", out)
	}
}

// TestTLSHugeRequests sends the largest requests there are through TLS, many at once.
func TestTLSHugeRequests(t *testing.T) {
	ca := newAuthority(t, "ca")
	port := serveTLS(t, nbdtest.NewMemory(64*mib), ca, false)
	key, cert := ca.sign(&x509.Certificate{Subject: pkix.Name{CommonName: "huge"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	conf := &tls.Config{RootCAs: ca.pool(), ServerName: "localhost", Certificates: []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key}}}
	c := must[*nbdtest.Client](t)(nbdtest.Dial(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", port), "vol", nbdtest.Options{TLS: conf, Structured: true, Timeout: time.Minute}))
	data := make([]byte, 32*mib)
	rand.Read(data)
	check(t, c.Write(16*mib, data, true))
	for i := range 2 {
		must[uint64](t)(c.Send(nbdtest.Request{Cmd: 0, Off: 16 * mib, Len: uint32(len(data) >> i)}))
	}
	for range 2 {
		r := must[nbdtest.Reply](t)(c.Recv())
		if r.Err != nil || !bytes.Equal(r.Data, data[:len(r.Data)]) || len(r.Data) < 16*mib {
			t.Fatalf("read %d bytes: %v", len(r.Data), r.Err)
		}
	}
	check(t, c.Close())
}
