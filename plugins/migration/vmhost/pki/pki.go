// Package pki is who is who between a migration manager and its hypervisor hosts.
//
// The manager has an authority in its state store (package enrol). A host's file holds the certificate under which its
// agent serves the manager, and under which its QEMUs send memory and disks to those of other hosts. The name in it is the
// host's name in the manager's configuration: both sides of a transfer hold each other to it (invariant M4).
package pki

import (
	"context"

	"github.com/ratchetos/ratchet/plugins/internal/enrol"
)

// Manager is the name in the certificates of every manager. No host can be enrolled under it: it has a dot.
const Manager = "manager.ratchet"

// EnrollCommand prints a host's file.
const EnrollCommand = "ratchetctl migrate host enroll NAME"

type (
	// Authority is a manager's own certificate authority for hosts.
	Authority = enrol.Authority
	// Identity is what a host has from its enrolment.
	Identity = enrol.Identity
	// State is where the manager keeps its authority; core/plugin.Host is one.
	State = enrol.State
)

// Open reads the authority, or makes it at the first time.
func Open(ctx context.Context, s State) (*Authority, error) {
	return enrol.Open(ctx, s, enrol.Use{
		Prefix: "hosts/", Authority: "ratchet hypervisor hosts", Box: Manager, HostServes: true, Command: "ratchetctl migrate hosts",
	})
}

// ReadIdentity reads the file that was printed when the host was enrolled.
func ReadIdentity(path string) (*Identity, error) { return enrol.ReadIdentity(path, EnrollCommand) }
