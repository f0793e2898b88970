package keys

import (
	"fmt"
	"slices"
	"strings"
)

// Role is what a key is for; its files are named after it.
type Role string

// The roles.
const (
	// SecureBoot signs UKIs; its certificate is in the firmware's db.
	SecureBoot Role = "secureboot"
	// PlatformKey and ExchangeKey are the firmware's PK and KEK. A ring without them uses SecureBoot
	// for all three, as development does.
	PlatformKey Role = "pk"
	ExchangeKey Role = "kek"
	// Policy signs which PCR values may unseal; PolicySpare takes over when it is rotated. Both
	// public halves are in every image, and boxes are sealed to both.
	Policy      Role = "policy"
	PolicySpare Role = "policy-spare"
	// Bundle signs update bundles and lists of checksums.
	Bundle Role = "bundle"
	// Plugin signs plugins that are not part of the image.
	Plugin Role = "plugin"
	// Owner signs what a box is asked to do from afar, and its provisioning.
	Owner Role = "owner"
)

// Roles are all roles, in the order they are shown.
func Roles() []Role {
	return []Role{PlatformKey, ExchangeKey, SecureBoot, Policy, PolicySpare, Bundle, Plugin, Owner}
}

// ParseRole reads the name of a role.
func ParseRole(s string) (Role, error) {
	if slices.Contains(Roles(), Role(s)) {
		return Role(s), nil
	}
	var names []string
	for _, r := range Roles() {
		names = append(names, string(r))
	}
	return "", fmt.Errorf("no key %q; choose one of: %s", s, strings.Join(names, ", "))
}

// certified roles have a certificate and are RSA-2048, which is what every firmware accepts; all
// others are P-256.
func (r Role) certified() bool {
	switch Role(strings.TrimSuffix(string(r), oldSuffix)) {
	case SecureBoot, PlatformKey, ExchangeKey:
		return true
	}
	return false
}

func (r Role) keyFile() string { return string(r) + ".key" }

func (r Role) publicFile() string { return string(r) + ".pub" }

func (r Role) certFile() string { return string(r) + ".crt" }

// Algorithm is the kind of key that the role asks for, for people.
func (r Role) Algorithm() string {
	if r.certified() {
		return "RSA-2048"
	}
	return "P-256"
}
