package attach

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Rights say what a token allows. Every token allows to read.
type Rights string

// Rights.
const (
	ReadOnly  Rights = "read"
	ReadWrite Rights = "write"
)

// Token is what is kept of one. Its secret is not.
type Token struct {
	Identity string    `json:"identity"`
	Rights   Rights    `json:"rights"`
	Sum      string    `json:"sum"` // SHA-256 of the secret, hexadecimal
	Made     time.Time `json:"made"`
}

// Errors of Registry.
var (
	ErrTaken   = errors.New("identity has a token already: revoke it first")
	ErrNoToken = errors.New("identity has no token")
)

const (
	registryVersion = 1
	maxIdentity     = 64
	maxTokens       = 1024 // of a volume
	minSecret       = 16
	maxSecret       = 128
)

// Registry holds the tokens of all volumes. The zero value has none and every volume is open. It is a plain value
// without a lock.
type Registry struct {
	// closed has an entry for each volume that wants a token, in the order in which they were made.
	closed map[string][]Token
}

// Make adds a token for an identity. The secret is the caller's, who gets it from a source of randomness and shows
// it once.
func (r *Registry) Make(volume, identity string, rights Rights, secret string, now time.Time) error {
	if err := checkIdentity(identity); err != nil {
		return err
	}
	if rights != ReadOnly && rights != ReadWrite {
		return fmt.Errorf("rights %q: say %s or %s", rights, ReadOnly, ReadWrite)
	}
	if len(secret) < minSecret || len(secret) > maxSecret || strings.ContainsAny(secret, "@/?#% ") {
		return fmt.Errorf("secret of %d characters: %d to %d are needed, without those that mean something in a URI", len(secret), minSecret, maxSecret)
	}
	list := r.closed[volume]
	if slices.ContainsFunc(list, func(t Token) bool { return t.Identity == identity }) {
		return fmt.Errorf("token for %s on %s: %w", identity, volume, ErrTaken)
	}
	if len(list) == maxTokens {
		return fmt.Errorf("volume %s has %d tokens: revoke some", volume, maxTokens)
	}
	if r.closed == nil {
		r.closed = make(map[string][]Token)
	}
	sum := sha256.Sum256([]byte(secret))
	r.closed[volume] = append(slices.Clip(list), Token{identity, rights, hex.EncodeToString(sum[:]), now.UTC().Truncate(time.Second)})
	return nil
}

// Revoke takes the token of an identity back. The volume stays closed.
func (r *Registry) Revoke(volume, identity string) error {
	list := r.closed[volume]
	kept := slices.DeleteFunc(slices.Clone(list), func(t Token) bool { return t.Identity == identity })
	if len(kept) == len(list) {
		return fmt.Errorf("token for %s on %s: %w", identity, volume, ErrNoToken)
	}
	r.closed[volume] = kept
	return nil
}

// Open forgets all tokens of a volume and lets everyone in.
func (r *Registry) Open(volume string) { delete(r.closed, volume) }

// Closed reports whether a volume wants a token.
func (r *Registry) Closed(volume string) bool {
	_, ok := r.closed[volume]
	return ok
}

// List returns the tokens of a volume in the order in which they were made.
func (r *Registry) List(volume string) []Token { return slices.Clone(r.closed[volume]) }

// Identify returns the token that a secret belongs to. How long it takes does not depend on how much of a
// secret is right, nor on which token it is.
func (r *Registry) Identify(volume, secret string) (Token, bool) {
	sum := sha256.Sum256([]byte(secret))
	given := []byte(hex.EncodeToString(sum[:]))
	found := -1
	for i, t := range r.closed[volume] {
		same := subtle.ConstantTimeCompare(given, []byte(t.Sum))
		found = subtle.ConstantTimeSelect(same, i, found)
	}
	if found < 0 {
		return Token{}, false
	}
	return r.closed[volume][found], true
}

// clone returns a registry that shares nothing with r that is ever changed.
func (r *Registry) clone() Registry { return Registry{maps.Clone(r.closed)} }

// file is the form of a Registry on disk.
type file struct {
	Version int                `json:"version"`
	Volumes map[string][]Token `json:"volumes"`
}

// MarshalJSON implements json.Marshaler.
func (r Registry) MarshalJSON() ([]byte, error) {
	return json.Marshal(file{registryVersion, r.closed})
}

// UnmarshalJSON implements json.Unmarshaler. It refuses what it does not understand as a whole: a token that was
// dropped silently would be one that no longer lets anyone in.
func (r *Registry) UnmarshalJSON(b []byte) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	var f file
	if err := d.Decode(&f); err != nil {
		return fmt.Errorf("read tokens: %w", err)
	}
	if f.Version != registryVersion {
		return fmt.Errorf("read tokens: version %d is not known to this release; boot the one that wrote them", f.Version)
	}
	for volume, list := range f.Volumes {
		seen := make(map[string]bool)
		for _, t := range list {
			sum, err := hex.DecodeString(t.Sum)
			if err != nil || len(sum) != sha256.Size || seen[t.Identity] || checkIdentity(t.Identity) != nil || t.Rights != ReadOnly && t.Rights != ReadWrite {
				return fmt.Errorf("read tokens: that of %q on volume %q is damaged", t.Identity, volume)
			}
			seen[t.Identity] = true
		}
		if list == nil {
			f.Volumes[volume] = []Token{}
		}
	}
	r.closed = f.Volumes
	return nil
}

// checkIdentity allows names that need no quoting anywhere.
func checkIdentity(s string) error {
	for i, c := range s {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', i > 0 && strings.ContainsRune("-_.", c):
		default:
			return fmt.Errorf("identity %q: use letters, digits, - _ and ., starting with a letter or digit", s)
		}
	}
	if s == "" || len(s) > maxIdentity {
		return fmt.Errorf("identity %q: use 1 to %d characters", s, maxIdentity)
	}
	return nil
}

// Split takes an export name apart. Volumes have no @ in their names.
func Split(name string) (volume, secret string, hasSecret bool) { return strings.Cut(name, "@") }

// ExportName is what a client of the token asks for.
func ExportName(volume, secret string) string { return volume + "@" + secret }
