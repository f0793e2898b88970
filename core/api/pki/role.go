package pki

import (
	"crypto/x509"
	"fmt"
)

// Role is what a caller may do; a higher one includes the lower ones.
type Role int

// The roles, lowest first, so that they can be compared.
const (
	None     Role = iota // not authenticated
	Viewer               // reads everything but secrets
	Operator             // also restarts plugins and calls their methods
	Admin                // also changes configuration, hardware, power and access
)

var roleNames = [...]string{None: "none", Viewer: "viewer", Operator: "operator", Admin: "admin"}

// Roles lists the names a token can be made for.
func Roles() []string { return roleNames[Viewer:] }

func (r Role) String() string {
	if r < None || r > Admin {
		return "none"
	}
	return roleNames[r]
}

// ParseRole reads a role's name.
func ParseRole(name string) (Role, error) {
	for r := Viewer; r <= Admin; r++ {
		if roleNames[r] == name {
			return r, nil
		}
	}
	return None, fmt.Errorf("role %q is not one of viewer, operator, admin", name)
}

// RoleOf reads the role from a verified client certificate. A certificate that names no
// role, or several, gives none.
func RoleOf(c *x509.Certificate) Role {
	if len(c.Subject.OrganizationalUnit) != 1 {
		return None
	}
	r, err := ParseRole(c.Subject.OrganizationalUnit[0])
	if err != nil {
		return None
	}
	return r
}
