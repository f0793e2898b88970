package vault

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/ratchetos/ratchet/boot/counter"
)

// Secret is S.
type Secret [counter.SecretSize]byte

// newSecret makes one.
func newSecret() (s Secret, err error) {
	if _, err := rand.Read(s[:]); err != nil {
		return s, fmt.Errorf("make the box's secret: %w", err)
	}
	return s, nil
}

// CoreKey is for core: its secrets at rest, and the proof that lets it raise V.
func (s Secret) CoreKey() ([]byte, error) { return expand(s[:], nil, "ratchet core 1") }

// passphrase opens the box's keyslot of a volume.
func (s Secret) passphrase(uuid string) ([]byte, error) {
	return expand(s[:], nil, "ratchet volume "+uuid)
}

// wrap encrypts S under a recovery key. The salt makes the key a new one each time.
func (s Secret) wrap(recovery []byte) ([]byte, error) {
	salt := make([]byte, saltSize)
	if _, err := rand.Read(salt); err != nil {
		return nil, fmt.Errorf("encrypt the box's secret: %w", err)
	}
	seal, err := wrapping(recovery, salt)
	if err != nil {
		return nil, err
	}
	return seal.Seal(salt, nil, s[:], nil), nil
}

// unwrap is the inverse; it fails for another recovery key.
func unwrap(wrapped, recovery []byte) (s Secret, err error) {
	if len(wrapped) < saltSize {
		return s, errors.New("decrypt the box's secret: it is cut off")
	}
	seal, err := wrapping(recovery, wrapped[:saltSize])
	if err != nil {
		return s, err
	}
	plain, err := seal.Open(nil, nil, wrapped[saltSize:], nil)
	if err != nil || len(plain) != len(s) {
		return s, fmt.Errorf("decrypt the box's secret: %w", errors.Join(ErrOtherKey, err))
	}
	return Secret(plain), nil
}

const saltSize = 16

func wrapping(recovery, salt []byte) (cipher.AEAD, error) {
	key, err := expand(recovery, salt, "ratchet recovery 1")
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("encrypt the box's secret: %w", err)
	}
	return cipher.NewGCMWithRandomNonce(block)
}

func expand(secret, salt []byte, info string) ([]byte, error) {
	key, err := hkdf.Key(sha256.New, secret, salt, info, 32)
	if err != nil {
		return nil, fmt.Errorf("derive key: %w", err)
	}
	return key, nil
}
