package keys

import (
	"bytes"
	"crypto"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// maxKeyFile bounds what is read as a key.
const maxKeyFile = 64 << 10

// open finds the private half of a role's key: by the URI it was given, else in its file, else, in
// a ring that may ask for signatures, with whoever has it.
func (r Ring) open(role Role) (crypto.Signer, error) {
	if uri := r.URIs[role]; uri != "" {
		return openURI(uri)
	}
	s, err := openFile(filepath.Join(r.Dir, role.keyFile()))
	if !errors.Is(err, fs.ErrNotExist) {
		return s, err
	}
	pub, pubErr := r.recorded(role)
	if pubErr != nil {
		return nil, err
	}
	if r.Detach == "" {
		return nil, fmt.Errorf("%w; only its public half is here: pass --key %s=URI, or --detach DIR to have it signed elsewhere", err, role)
	}
	return &detached{dir: r.Detach, role: role, pub: pub}, nil
}

// openURI opens a private key by its URI; a plain path will do.
func openURI(uri string) (crypto.Signer, error) {
	if strings.HasPrefix(uri, scheme) {
		return openToken(uri)
	}
	return openFile(strings.TrimPrefix(uri, "file:"))
}

// openFile reads a PEM private key, or the one line that says on which token it is.
func openFile(path string) (crypto.Signer, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	if info.Size() > maxKeyFile {
		return nil, fmt.Errorf("read key %s: %d bytes are too many", path, info.Size())
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	if bytes.HasPrefix(b, []byte(scheme)) {
		return openToken(strings.TrimSpace(string(b)))
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("read key: %s is neither PEM nor a pkcs11: URI", path)
	}
	s, err := parsePrivate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read key %s: %w", path, err)
	}
	return s, nil
}
