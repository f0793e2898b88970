package ctl

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"io"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/core/api/client"
	"github.com/ratchetos/ratchet/core/api/pki"
)

// TestLoginThatEnds: a login says when it is about to end, and that it has ended instead of that the box does not answer.
func TestLoginThatEnds(t *testing.T) {
	for name, test := range map[string]struct {
		left       time.Duration
		says, fail string
	}{
		"new":   {left: 300 * 24 * time.Hour},
		"soon":  {left: 3 * 24 * time.Hour, says: "log in again before that"},
		"ended": {left: -24 * time.Hour, fail: "ended on"},
	} {
		t.Run(name, func(t *testing.T) {
			var said strings.Builder
			a := &App{Out: io.Discard, Err: &said, configDir: t.TempDir(), context: "lab"}
			if err := a.save("lab", "box", lasting(t, test.left)); err != nil {
				t.Fatal(err)
			}
			_, err := a.Client()
			if (err != nil) != (test.fail != "") || err != nil && !strings.Contains(err.Error(), test.fail) {
				t.Errorf("client: %v", err)
			}
			if !strings.Contains(said.String(), test.says) || (test.says == "") != (said.Len() == 0) {
				t.Errorf("said %q", said.String())
			}
		})
	}
}

// lasting makes credentials that end after the given time.
func lasting(t *testing.T, left time.Duration) *client.Credentials {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().AddDate(-1, 0, 0), NotAfter: time.Now().Add(left)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := pki.EncodeKey(key)
	if err != nil {
		t.Fatal(err)
	}
	pem := pki.EncodeCertificate(der)
	return &client.Credentials{CA: pem, Certificate: pem, Key: encoded}
}
