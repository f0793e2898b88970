package luks

import (
	"crypto/aes"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"

	"golang.org/x/crypto/xts"
)

// ErrPassphrase is wrapped when no keyslot opens with a passphrase.
var ErrPassphrase = errors.New("no keyslot opens with this passphrase")

// Unlock returns the volume key. The error wraps ErrPassphrase when keyslots were tried and none fits.
func (h *Header) Unlock(r io.ReaderAt, passphrase []byte) ([]byte, error) {
	var problems []error
	for _, id := range sorted(h.meta.Keyslots) {
		key, err := h.try(r, id, passphrase)
		switch {
		case err == nil:
			return key, nil
		case errors.Is(err, ErrPassphrase), errors.Is(err, errForeign):
		default:
			problems = append(problems, err)
		}
	}
	return nil, errors.Join(append([]error{fmt.Errorf("open volume %s: %w", h.UUID, ErrPassphrase)}, problems...)...)
}

// try opens one keyslot.
func (h *Header) try(r io.ReaderAt, id string, passphrase []byte) ([]byte, error) {
	k, err := h.meta.slot(id, h.size)
	if err != nil {
		return nil, err
	}
	_, d, err := h.meta.digestOf(id)
	if err != nil {
		return nil, err
	}
	stored := make([]byte, keySize*stripes)
	if _, err := r.ReadAt(stored, int64(k.Area.Offset)); err != nil {
		return nil, fmt.Errorf("read LUKS2 keyslot %s: %w", id, err)
	}
	if err := k.crypt(stored, passphrase, (*xts.Cipher).Decrypt); err != nil {
		return nil, err
	}
	key := merge(stored, keySize)
	sum, err := stretch(key, d.Salt, d.Iterations, len(d.Digest))
	if err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare(sum, d.Digest) != 1 {
		return nil, ErrPassphrase
	}
	return key, nil
}

// crypt runs the keyslot's cipher over its stripes, in sectors of 512 bytes numbered from its start.
func (k keyslot) crypt(stripes, passphrase []byte, run func(*xts.Cipher, []byte, []byte, uint64)) error {
	areaKey, err := stretch(passphrase, k.KDF.Salt, k.KDF.Iterations, k.Area.KeySize)
	if err != nil {
		return err
	}
	c, err := xts.NewCipher(aes.NewCipher, areaKey)
	if err != nil {
		return fmt.Errorf("open LUKS2 keyslot: %w", err)
	}
	for at := 0; at < len(stripes); at += 512 {
		part := stripes[at:min(len(stripes), at+512)]
		run(c, part, part, uint64(at/512))
	}
	return nil
}

// newSlot splits and encrypts key for a passphrase. The area is the caller's choice.
func newSlot(key, passphrase []byte, offset uint64, rand io.Reader) (keyslot, []byte, error) {
	k := keyslot{
		Type: "luks2", KeySize: keySize,
		AF:   splitter{Type: "luks1", Stripes: stripes, Hash: "sha256"},
		Area: area{Type: "raw", Offset: offset, Size: areaSize, Encryption: Cipher, KeySize: keySize},
		KDF:  kdf{Type: "pbkdf2", Hash: "sha256", Iterations: minIterations, Salt: make([]byte, 32)},
	}
	if _, err := io.ReadFull(rand, k.KDF.Salt); err != nil {
		return k, nil, fmt.Errorf("make salt: %w", err)
	}
	content := make([]byte, keySize*stripes)
	if err := split(content, key, rand); err != nil {
		return k, nil, err
	}
	return k, content, k.crypt(content, passphrase, (*xts.Cipher).Encrypt)
}

func stretch(secret, salt []byte, iterations, n int) ([]byte, error) {
	out, err := pbkdf2.Key(sha256.New, string(secret), salt, iterations, n)
	if err != nil {
		return nil, fmt.Errorf("derive key: %w", err)
	}
	return out, nil
}
