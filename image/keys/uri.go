package keys

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
)

// scheme of the URIs that name a key on a token.
const scheme = "pkcs11:"

// ErrURI is wrapped by every error about a URI that cannot be used.
var ErrURI = errors.New("not a usable pkcs11: URI")

// tokenKey is what a pkcs11: URI (RFC 7512) says of a key, as far as signing needs it.
type tokenKey struct {
	Token  string // label of the token, "" when there is only one
	Object string // label of the key
	ID     []byte // CKA_ID of the key; this or Object
	Module string // path of the PKCS #11 library
	PIN    string
	// PINSource is the file with the PIN.
	PINSource string
}

// parseURI reads a pkcs11: URI. An attribute that is not understood is an error: it may be what
// tells the wanted key from another.
func parseURI(s string) (tokenKey, error) {
	var k tokenKey
	rest, ok := strings.CutPrefix(s, scheme)
	if !ok {
		return k, fmt.Errorf("%w: it does not begin with %q", ErrURI, scheme)
	}
	path, query, _ := strings.Cut(rest, "?")
	seen := make(map[string]bool)
	each := func(list, separator string, set func(name, value string) bool) error {
		for part := range strings.SplitSeq(list, separator) {
			if part == "" {
				continue
			}
			name, raw, _ := strings.Cut(part, "=")
			value, err := url.PathUnescape(raw)
			if err != nil {
				return fmt.Errorf("%w: %s: %w", ErrURI, name, err)
			}
			// A zero byte would cut the value short in the library.
			if seen[name] || value == "" || name != "id" && strings.ContainsRune(value, 0) {
				return fmt.Errorf("%w: %s is empty, given twice or holds a zero byte", ErrURI, name)
			}
			seen[name] = true
			if !set(name, value) {
				return fmt.Errorf("%w: attribute %s (%s) is not supported", ErrURI, name, value)
			}
		}
		return nil
	}
	if err := each(path, ";", k.setPath); err != nil {
		return tokenKey{}, err
	}
	if err := each(query, "&", k.setQuery); err != nil {
		return tokenKey{}, err
	}
	if k.Object == "" && len(k.ID) == 0 {
		return tokenKey{}, fmt.Errorf("%w: it names no key: give object= or id=", ErrURI)
	}
	if k.PIN != "" && k.PINSource != "" {
		return tokenKey{}, fmt.Errorf("%w: pin-value and pin-source exclude each other", ErrURI)
	}
	return k, nil
}

func (k *tokenKey) setPath(name, value string) bool {
	switch name {
	case "token":
		k.Token = value
	case "object":
		k.Object = value
	case "id":
		k.ID = []byte(value)
	case "type": // both halves of the pair are looked for by what the call needs
		return value == "private" || value == "public"
	default:
		return false
	}
	return true
}

func (k *tokenKey) setQuery(name, value string) bool {
	switch name {
	case "module-path":
		k.Module = value
	case "pin-value":
		k.PIN = value
	case "pin-source":
		k.PINSource = strings.TrimPrefix(value, "file:")
	default:
		return false
	}
	return true
}

// Environment for what is better not part of a URI that ends up in files and logs.
const (
	EnvPIN    = "RATCHET_PKCS11_PIN"
	EnvModule = "RATCHET_PKCS11_MODULE"
)

// pin is the user PIN: from the URI, a file or the environment.
func (k tokenKey) pin() (string, error) {
	switch {
	case k.PIN != "":
		return k.PIN, nil
	case k.PINSource != "":
		b, err := os.ReadFile(k.PINSource)
		if err != nil {
			return "", fmt.Errorf("read PIN: %w", err)
		}
		return strings.TrimRight(string(b), "\r\n"), nil
	}
	if pin := os.Getenv(EnvPIN); pin != "" {
		return pin, nil
	}
	return "", fmt.Errorf("no PIN: set %s, or add ?pin-source=file:PATH to the URI", EnvPIN)
}

// module is the library that talks to the token.
func (k tokenKey) module() (string, error) {
	if k.Module != "" {
		return k.Module, nil
	}
	if m := os.Getenv(EnvModule); m != "" {
		return m, nil
	}
	return "", fmt.Errorf("no PKCS #11 library: set %s to its path, or add ?module-path=PATH to the URI", EnvModule)
}
