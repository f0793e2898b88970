package keys

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strings"
)

// Request is one signature that is wanted, as it is stored beside the digest: NAME.json describes
// NAME.digest, the 32 bytes to be signed, and NAME.sig is the answer.
type Request struct {
	Role Role `json:"role"`
	// Mechanism says how: "RSASSA-PKCS1-v1_5, SHA-256" or "ECDSA, SHA-256".
	Mechanism string `json:"mechanism"`
	Digest    string `json:"digest"` // hexadecimal
	PublicKey string `json:"public_key"`
}

// Wanted is the error of a signer whose key is elsewhere: the request was written, and once the
// answer lies beside it the same signature is given. Everything that asks is deterministic, so that
// running the same command again asks for the same.
type Wanted struct {
	Role Role
	File string // with the digest
}

func (w *Wanted) Error() string {
	return fmt.Sprintf("a signature of the %s key is wanted: sign the digest in %s (how: the .json beside it), "+
		"hand it in with `image attach %s SIGNATURE`, then run this command again", w.Role, w.File, filepath.Dir(w.File))
}

// detached is a key that only people can reach.
type detached struct {
	dir  string
	role Role
	pub  crypto.PublicKey
}

var _ crypto.Signer = (*detached)(nil)

// Public returns the public half.
func (d *detached) Public() crypto.PublicKey { return d.pub }

// Sign gives the signature that was attached, or asks for it with [Wanted].
func (d *detached) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if opts.HashFunc() != crypto.SHA256 || len(digest) != sha256.Size {
		return nil, errors.New("ask for a signature: only SHA-256 digests are signed")
	}
	base := filepath.Join(d.dir, fmt.Sprintf("%s-%x", d.role, digest[:8]))
	sig, err := os.ReadFile(base + ".sig")
	if err == nil {
		if err := Verify(d.pub, digest, sig); err != nil {
			return nil, fmt.Errorf("attached signature %s.sig: %w; remove it to ask again", base, err)
		}
		return sig, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("ask for a signature: %w", err)
	}
	if err := d.ask(base, digest); err != nil {
		return nil, fmt.Errorf("ask for a signature: %w", err)
	}
	return nil, &Wanted{Role: d.role, File: base + ".digest"}
}

func (d *detached) ask(base string, digest []byte) error {
	pub, err := EncodePublic(d.pub)
	if err != nil {
		return err
	}
	q := Request{Role: d.role, Mechanism: "ECDSA, SHA-256", Digest: hex.EncodeToString(digest), PublicKey: pub}
	if d.role.certified() {
		q.Mechanism = "RSASSA-PKCS1-v1_5, SHA-256"
	}
	b, err := json.MarshalIndent(q, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(d.dir, 0o755); err != nil {
		return err
	}
	if err := write(base+".digest", digest, 0o644); err != nil {
		return err
	}
	return write(base+".json", append(b, '\n'), 0o644)
}

// ErrForeignSignature means that a signature answers none of the requests.
var ErrForeignSignature = errors.New("the signature answers no request")

// Attach finds the request in dir that a signature answers and stores it there. The signature is
// raw or base64; ECDSA may be ASN.1 or, as tokens give it, the two numbers side by side.
func Attach(dir string, sig []byte) (Request, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil || len(paths) == 0 {
		return Request{}, fmt.Errorf("attach signature: no request in %s", dir)
	}
	for _, path := range paths {
		q, pub, digest, err := readRequest(path)
		if err != nil {
			return Request{}, fmt.Errorf("attach signature: %s: %w", path, err)
		}
		for _, s := range encodings(pub, sig) {
			if Verify(pub, digest, s) == nil {
				return q, write(strings.TrimSuffix(path, ".json")+".sig", s, 0o644)
			}
		}
	}
	return Request{}, fmt.Errorf("attach signature: %w in %s", ErrForeignSignature, dir)
}

func readRequest(path string) (q Request, pub crypto.PublicKey, digest []byte, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return q, nil, nil, err
	}
	if err := json.Unmarshal(b, &q); err != nil {
		return q, nil, nil, err
	}
	if digest, err = hex.DecodeString(q.Digest); err != nil || len(digest) != sha256.Size {
		return q, nil, nil, fmt.Errorf("digest %q is not one of SHA-256", q.Digest)
	}
	pub, err = ParsePublic([]byte(q.PublicKey))
	return q, pub, digest, err
}

// encodings are the ways to read what a signing tool wrote.
func encodings(pub crypto.PublicKey, sig []byte) [][]byte {
	all := [][]byte{sig}
	if b, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(string(sig)), "")); err == nil {
		all = append(all, b)
	}
	if _, ok := pub.(*ecdsa.PublicKey); !ok {
		return all
	}
	for _, s := range all {
		if len(s) == 64 {
			pair := struct{ R, S *big.Int }{new(big.Int).SetBytes(s[:32]), new(big.Int).SetBytes(s[32:])}
			if der, err := asn1.Marshal(pair); err == nil {
				all = append(all, der)
			}
		}
	}
	return all
}
