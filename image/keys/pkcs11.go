package keys

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// A token is reached through OpenSC's pkcs11-tool. A PKCS #11 library has to be loaded as C code:
// doing that in this process would need cgo, and with it a compiler on every machine that builds
// an image, or a dynamic loader of our own. A vendor signs a handful of digests a release, each a
// process of some 20 ms; and a library that crashes takes only that process with it.
const tool = "pkcs11-tool"

// toolLimit bounds one call; some tokens wait for somebody to touch them.
const toolLimit = 2 * time.Minute

// tokenSigner is a key on a token.
type tokenSigner struct {
	key tokenKey
	pub crypto.PublicKey
}

var _ crypto.Signer = (*tokenSigner)(nil)

// openToken finds a key by its URI and reads its public half, which tokens give without a PIN.
func openToken(uri string) (*tokenSigner, error) {
	k, err := parseURI(uri)
	if err != nil {
		return nil, err
	}
	s := &tokenSigner{key: k}
	err = s.inFolder(func(dir string) error {
		if err := s.resolve(); err != nil {
			return err
		}
		out := filepath.Join(dir, "public")
		if _, err := s.run(nil, "--id", hex.EncodeToString(s.key.ID), "--read-object", "--type", "pubkey", "--output-file", out); err != nil {
			return err
		}
		der, err := os.ReadFile(out)
		if err != nil {
			return err
		}
		s.pub, err = x509.ParsePKIXPublicKey(der)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read public key from token %q: %w", k.Token, err)
	}
	return s, nil
}

// Public returns the public half.
func (s *tokenSigner) Public() crypto.PublicKey { return s.pub }

// resolve finds the CKA_ID of a key that was named by its label: the tool signs with the first key it
// finds, whatever label it is told, unless it is told the ID.
func (s *tokenSigner) resolve() error {
	out, err := s.run(nil, "--list-objects", "--type", "pubkey")
	if err != nil {
		return err
	}
	var found [][]byte
	for _, o := range parseObjects(out) {
		if (s.key.Object == "" || o.label == s.key.Object) && (len(s.key.ID) == 0 || bytes.Equal(o.id, s.key.ID)) {
			found = append(found, o.id)
		}
	}
	switch {
	case len(found) == 0:
		return fmt.Errorf("key %q (id %x) is not on the token", s.key.Object, s.key.ID)
	case len(found) > 1:
		return fmt.Errorf("%d keys on the token fit: tell them apart by id=", len(found))
	case len(found[0]) == 0:
		return fmt.Errorf("key %q has no ID, which signing needs: give it one with pkcs11-tool --set-id", s.key.Object)
	}
	s.key.ID = found[0]
	return nil
}

// object is what the tool lists of a key.
type object struct {
	label string
	id    []byte
}

// parseObjects reads the tool's list: a line for each object, and its attributes indented below.
func parseObjects(list []byte) (all []object) {
	for line := range strings.Lines(string(list)) {
		if strings.HasPrefix(line, "Public Key Object") {
			all = append(all, object{})
			continue
		}
		name, value, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok || len(all) == 0 {
			continue
		}
		o := &all[len(all)-1]
		switch value = strings.TrimSpace(value); name {
		case "label":
			o.label = value
		case "ID":
			o.id, _ = hex.DecodeString(value) // one that is not hexadecimal is none
		}
	}
	return all
}

// Sign signs a SHA-256 digest on the token; the randomness is the token's own. What comes back is
// verified, since a wrong key of the same label would otherwise be found out by firmware.
func (s *tokenSigner) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if opts.HashFunc() != crypto.SHA256 || len(digest) != crypto.SHA256.Size() {
		return nil, errors.New("sign on token: only SHA-256 digests are signed")
	}
	mechanism := []string{"--mechanism", "ECDSA", "--signature-format", "openssl"}
	input := digest
	if _, ok := s.pub.(*rsa.PublicKey); ok {
		mechanism = []string{"--mechanism", "RSA-PKCS"}
		input = append(bytes.Clone(digestInfo), digest...)
	}
	pin, err := s.key.pin()
	if err != nil {
		return nil, fmt.Errorf("sign on token %q: %w", s.key.Token, err)
	}
	var sig []byte
	err = s.inFolder(func(dir string) error {
		in, out := filepath.Join(dir, "digest"), filepath.Join(dir, "signature")
		if err := os.WriteFile(in, input, 0o600); err != nil {
			return err
		}
		// The PIN goes by the environment: an argument is seen by every process of the machine.
		args := append(mechanism, "--id", hex.EncodeToString(s.key.ID), "--sign", "--login", "--pin", "env:"+EnvPIN, "--input-file", in, "--output-file", out)
		if _, err := s.run([]string{EnvPIN + "=" + pin}, args...); err != nil {
			return err
		}
		sig, err = os.ReadFile(out)
		return err
	})
	if err == nil {
		err = Verify(s.pub, digest, sig)
	}
	if err != nil {
		return nil, fmt.Errorf("sign on token %q: %w", s.key.Token, err)
	}
	return sig, nil
}

// digestInfo is the DER in front of a SHA-256 digest that PKCS #1 v1.5 signs with it.
var digestInfo = []byte{
	0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20,
}

// run calls the tool on the token and returns what it printed.
func (s *tokenSigner) run(env []string, args ...string) ([]byte, error) {
	module, err := s.key.module()
	if err != nil {
		return nil, err
	}
	all := []string{"--module", module}
	if s.key.Token != "" {
		all = append(all, "--token-label", s.key.Token)
	}
	ctx, cancel := context.WithTimeout(context.Background(), toolLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, tool, append(all, args...)...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return nil, fmt.Errorf("%w; run: sudo apt-get install opensc", err)
	case err != nil:
		return nil, fmt.Errorf("%s: %w: %s", tool, err, bytes.TrimSpace(out))
	}
	return out, nil
}

// inFolder gives f a folder for the tool's files.
func (s *tokenSigner) inFolder(f func(dir string) error) error {
	dir, err := os.MkdirTemp("", "ratchet-token-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	return f(dir)
}

// Verify checks a signature over a SHA-256 digest: PKCS #1 v1.5, or ECDSA in ASN.1.
func Verify(pub crypto.PublicKey, digest, sig []byte) error {
	ok := false
	switch k := pub.(type) {
	case *rsa.PublicKey:
		ok = rsa.VerifyPKCS1v15(k, crypto.SHA256, digest, sig) == nil
	case *ecdsa.PublicKey:
		ok = ecdsa.VerifyASN1(k, digest, sig)
	}
	if !ok {
		return errors.New("the signature does not verify with the key's public half")
	}
	return nil
}
