package control

import (
	"context"

	"github.com/ratchetos/ratchet/plugins/internal/enrol"
)

// serverName is what every box's certificate says: a host knows its box by the authority in its file.
const serverName = "ratchet-dataplane"

type (
	// State is where the box keeps its authority; core/plugin.Host is one.
	State = enrol.State
	// Authority is a box's own certificate authority for hosts.
	Authority = enrol.Authority
	// Identity is what a host has from its enrolment at one box.
	Identity = enrol.Identity
)

// OpenAuthority reads the authority, or makes it at the first time.
func OpenAuthority(ctx context.Context, s State) (*Authority, error) {
	return enrol.Open(ctx, s, enrol.Use{
		Prefix: "agents/", Authority: "ratchet dataplane agents", Box: serverName, Command: "ratchetctl dataplane agent list",
	})
}

// ReadIdentity reads the file that `ratchetctl dataplane agent enroll` printed.
func ReadIdentity(path string) (*Identity, error) {
	return enrol.ReadIdentity(path, "ratchetctl dataplane agent enroll NAME")
}

// ParseIdentity takes the host's certificate, its key and the box's authority from PEM, in this order.
func ParseIdentity(b []byte) (*Identity, error) { return enrol.ParseIdentity(b) }
