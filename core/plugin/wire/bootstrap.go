package wire

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/hashicorp/go-plugin"
)

// Descriptors every plugin process inherits.
const (
	ControlFD   = 3
	BootstrapFD = 4
)

// ServiceName is the key of the feature in go-plugin's plugin set.
const ServiceName = "feature"

// maxBootstrap bounds what a plugin reads from BootstrapFD.
const maxBootstrap = 64 << 10

// Handshake tells a plugin process that core started it. It is not a secret.
func Handshake() plugin.HandshakeConfig {
	return plugin.HandshakeConfig{
		ProtocolVersion:  1,
		MagicCookieKey:   "RATCHET_PLUGIN",
		MagicCookieValue: "v1",
	}
}

// Bootstrap is what a plugin process must know before its first call. It comes through a
// sealed memfd and not through the environment, which anybody of the same uid can read.
type Bootstrap struct {
	Name string `json:"name"` // of the plugin, and the common name of its certificate
	CA   []byte `json:"ca"`   // DER certificate of this boot's host CA
	Cert []byte `json:"cert"` // DER certificate, server authentication only
	Key  []byte `json:"key"`  // PKCS #8
	// Heartbeat is how often the Watch stream speaks at least; 0 means one second.
	Heartbeat time.Duration `json:"heartbeat,omitempty"`
	// Outlive keeps the plugin serving when the control socket ends.
	Outlive bool `json:"outlive,omitempty"`
	// Sandbox asks the plugin to confine itself before it serves.
	Sandbox bool `json:"sandbox,omitempty"`
	// LogLevel is a slog level: -4 debug, 0 info.
	LogLevel int `json:"log_level,omitempty"`
}

// ReadBootstrap reads a Bootstrap.
func ReadBootstrap(r io.Reader) (*Bootstrap, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxBootstrap+1))
	if err != nil {
		return nil, fmt.Errorf("read plugin bootstrap: %w", err)
	}
	if len(data) > maxBootstrap {
		return nil, errors.New("read plugin bootstrap: longer than 64 KiB")
	}
	b := new(Bootstrap)
	if err := json.Unmarshal(data, b); err != nil {
		return nil, fmt.Errorf("parse plugin bootstrap: %w", err)
	}
	if b.Name == "" {
		return nil, errors.New("parse plugin bootstrap: no plugin name")
	}
	return b, nil
}

// File puts the bootstrap into a sealed memfd, ready to be inherited.
func (b *Bootstrap) File() (*os.File, error) {
	data, err := json.Marshal(b)
	if err != nil {
		return nil, fmt.Errorf("encode plugin bootstrap: %w", err)
	}
	return SealedFile("ratchet-bootstrap", data)
}

// ServerTLS is the plugin's side of the connection: TLS 1.3, and only a certificate made
// for client authentication by this boot's CA is let in. Plugins hold server certificates,
// so one plugin cannot call another.
func (b *Bootstrap) ServerTLS() (*tls.Config, error) {
	ca, err := x509.ParseCertificate(b.CA)
	if err != nil {
		return nil, fmt.Errorf("parse host CA: %w", err)
	}
	key, err := x509.ParsePKCS8PrivateKey(b.Key)
	if err != nil {
		return nil, fmt.Errorf("parse plugin key: %w", err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		CurvePreferences:       []tls.CurveID{tls.CurveP256}, // as core offers
		Certificates:           []tls.Certificate{{Certificate: [][]byte{b.Cert}, PrivateKey: key}},
		ClientAuth:             tls.RequireAndVerifyClientCert,
		ClientCAs:              pool,
		SessionTicketsDisabled: true, // one connection in a plugin's life
	}, nil
}
