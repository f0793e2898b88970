package api

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/core/api/pki"
)

// Identity is who calls.
type Identity struct {
	Name string // common name of the certificate, or "uid:1000"
	Role pki.Role
	Via  string // "tcp" or "unix"
}

type identityKey struct{}

// Caller returns who made the call that ctx belongs to.
func Caller(ctx context.Context) Identity {
	id, _ := ctx.Value(identityKey{}).(Identity)
	return id
}

// withPeer is an http.Server.ConnContext: on a unix socket it asks the kernel once for
// each connection. The zero Identity of a failed question has no role.
func withPeer(ctx context.Context, conn net.Conn) context.Context {
	if c, ok := conn.(*slotConn); ok {
		conn = c.Conn
	}
	if u, ok := conn.(*net.UnixConn); ok {
		id, err := peer(u)
		if err != nil {
			id = Identity{Via: "unix"}
		}
		return context.WithValue(ctx, identityKey{}, id)
	}
	return ctx
}

func peer(conn *net.UnixConn) (Identity, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return Identity{}, err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return Identity{}, err
	}
	if credErr != nil {
		return Identity{}, fmt.Errorf("read peer credentials: %w", credErr)
	}
	return Identity{Name: fmt.Sprintf("uid:%d", cred.Uid), Role: localRole(int(cred.Uid), os.Geteuid()), Via: "unix"}, nil
}

// localRole trusts the file mode of the socket: whoever else got in is in its group. On a
// workstation core runs as its user, who could do everything to it anyway.
func localRole(caller, own int) pki.Role {
	if caller == 0 || caller == own {
		return pki.Admin
	}
	return pki.Viewer
}

// identify adds the identity of a TLS client, if it showed a certificate; crypto/tls has
// verified it against the box's CA by then.
func identify(r *http.Request) Identity {
	if r.TLS == nil {
		return Caller(r.Context())
	}
	return tlsIdentity(r.TLS)
}

func tlsIdentity(state *tls.ConnectionState) Identity {
	id := Identity{Via: "tcp"}
	if len(state.VerifiedChains) > 0 {
		leaf := state.VerifiedChains[0][0]
		id.Name, id.Role = leaf.Subject.CommonName, pki.RoleOf(leaf)
	}
	return id
}
