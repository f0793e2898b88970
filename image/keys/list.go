package keys

import (
	"crypto"
	"os"
	"path/filepath"
	"strings"
)

// Entry is one key of a ring, for people.
type Entry struct {
	Role   Role
	Public crypto.PublicKey
	// Private says where the private half is.
	Private string
	Err     error
}

// List shows the keys that a ring has, old ones behind those that replaced them.
func (r Ring) List() []Entry {
	var all []Entry
	for _, role := range Roles() {
		for _, role := range []Role{role, role.old()} {
			if !r.Has(role) {
				continue
			}
			e := Entry{Role: role, Private: r.whereabouts(role)}
			e.Public, e.Err = r.Public(role)
			all = append(all, e)
		}
	}
	return all
}

// whereabouts tells where a private key is without opening it: a token may want to be touched.
func (r Ring) whereabouts(role Role) string {
	if uri := r.URIs[role]; uri != "" {
		return uri
	}
	b, err := os.ReadFile(filepath.Join(r.Dir, role.keyFile()))
	switch {
	case err != nil:
		return "elsewhere"
	case strings.HasPrefix(string(b), scheme):
		uri, _, _ := strings.Cut(strings.TrimSpace(string(b)), "?") // without a PIN
		return uri
	}
	return "file"
}
