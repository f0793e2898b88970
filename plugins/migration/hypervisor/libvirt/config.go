package libvirt

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/libvirt/domxml"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/libvirt/remote"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/libvirt/rpc"
)

// Config is how a daemon is reached, and how its host is seen by others.
type Config struct {
	// Name of the host in moves.
	Name string
	// Address is "unix:/run/libvirt/libvirt-sock" or "tls:HOST[:PORT]".
	Address string
	// CA, Cert and Key are in PEM, for TLS: libvirt lets nobody in without a certificate.
	CA, Cert, Key []byte
	// ServerName is the name in the daemon's certificate; "" is HOST.
	ServerName string
	// Stream is the address at which other hosts reach this one for memory and disks; "" is the name it has for itself.
	Stream string
	// StreamName is the name in the certificate for streams; "" is Stream.
	StreamName string
	// Listen is where streams are listened for; "" is as the daemon is configured.
	Listen string
	// Plain tells that the daemon has no certificates for streams, so that moves must be allowed to be plain.
	Plain bool
	// Networks says what segments are on this host.
	Networks domxml.Networks
	// Moves is shared by all ports of a manager: a move needs both its hosts. Nil is of use for looking only.
	Moves *Moves
	// Log is told what is done; nil is silent.
	Log *slog.Logger
}

// ParseAddress checks an address of Config.
func ParseAddress(s string) (rpc.Address, error) { return rpc.ParseAddress(s) }

// Check finds what is wrong with a configuration without connecting.
func (c Config) Check() error {
	a, err := ParseAddress(c.Address)
	if err != nil {
		return err
	}
	if err := c.Networks.Check(); err != nil {
		return err
	}
	if a.Network == "tls" {
		_, err = c.tls()
	}
	return err
}

// tls is nil for a unix socket.
func (c Config) tls() (*tls.Config, error) {
	if len(c.Cert) == 0 && len(c.CA) == 0 {
		return nil, nil
	}
	pair, err := tls.X509KeyPair(c.Cert, c.Key)
	if err != nil {
		return nil, fmt.Errorf("certificate for %s: %w", c.Name, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(c.CA) {
		return nil, fmt.Errorf("authority for %s: no certificate in it", c.Name)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: pool, ServerName: c.ServerName, MinVersion: tls.VersionTLS12}, nil
}

// connect opens a connection to the daemon.
func (c Config) connect(ctx context.Context, o remote.Options) (*remote.Conn, error) {
	a, err := ParseAddress(c.Address)
	if err != nil {
		return nil, err
	}
	conf, err := c.tls()
	if err != nil {
		return nil, err
	}
	nc, err := a.Dial(ctx, conf)
	if err != nil {
		return nil, fmt.Errorf("connect to libvirt on %s: %w", c.Name, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = nc.Close() })
	conn, err := remote.Open(ctx, nc, o)
	if err == nil && !stop() {
		err = errors.Join(ctx.Err(), conn.Close())
	}
	if err != nil {
		return nil, fmt.Errorf("connect to libvirt on %s: %w", c.Name, err)
	}
	return conn, nil
}
