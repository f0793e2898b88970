package rpc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
)

// DefaultPort is where daemons listen for TLS.
const DefaultPort = "16514"

// Address is where a daemon listens.
type Address struct {
	Network string // "unix" or "tls"
	Path    string // socket, or HOST:PORT
}

// ParseAddress reads "unix:/path" or "tls:HOST[:PORT]".
func ParseAddress(s string) (Address, error) {
	kind, rest, ok := strings.Cut(s, ":")
	switch {
	case ok && kind == "unix" && strings.HasPrefix(rest, "/"):
		return Address{kind, rest}, nil
	case ok && kind == "tls" && rest != "":
		host, port, err := net.SplitHostPort(rest)
		if err != nil {
			host, port = strings.Trim(rest, "[]"), DefaultPort
		}
		if host != "" && port != "" {
			return Address{kind, net.JoinHostPort(host, port)}, nil
		}
	}
	return Address{}, fmt.Errorf("address %q is neither unix:/PATH nor tls:HOST:PORT", s)
}

// Dial connects to a daemon, ready for New. conf is used with TLS only, and must hold a client certificate: libvirt's
// daemons let nobody in without.
func (a Address) Dial(ctx context.Context, conf *tls.Config) (net.Conn, error) {
	if a.Network == "unix" {
		var d net.Dialer
		return d.DialContext(ctx, "unix", a.Path)
	}
	if conf == nil {
		return nil, errors.New("connect with TLS: no certificate is configured")
	}
	d := tls.Dialer{Config: conf}
	nc, err := d.DialContext(ctx, "tcp", a.Path)
	if err != nil {
		return nil, err
	}
	if err := accepted(ctx, nc); err != nil {
		return nil, errors.Join(err, nc.Close())
	}
	return nc, nil
}

// accepted waits for the byte by which a daemon says that it has accepted our certificate. It closes the connection
// otherwise, after the handshake has succeeded on our side.
func accepted(ctx context.Context, nc net.Conn) error {
	stop := context.AfterFunc(ctx, func() { _ = nc.Close() })
	defer stop()
	var word [1]byte
	if _, err := io.ReadFull(nc, word[:]); err != nil {
		return fmt.Errorf("the daemon did not accept our certificate (tls_allowed_dn_list, CA): %w", errors.Join(err, ctx.Err()))
	}
	if word[0] != 1 {
		return fmt.Errorf("greeting %#x after TLS: %w", word[0], ErrProtocol)
	}
	return nil
}
