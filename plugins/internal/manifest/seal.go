package manifest

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"
)

const (
	// KeySize is the length of a volume's secret key in bytes.
	KeySize      = 32
	nonceSize    = chacha20poly1305.NonceSizeX
	sealOverhead = nonceSize + chacha20poly1305.Overhead
)

// ErrKey means that the key given is not the one that the volume was sealed with, or that one is
// given though the volume is not sealed, or is missing.
var ErrKey = errors.New("wrong encryption key")

// Sealer encrypts and authenticates the frames of one volume with XChaCha20-Poly1305. A nil Sealer leaves
// frames plain.
//
// The key in use is derived with HKDF-SHA-256 from the secret key and the volume's id, so volumes may share
// a secret. Nonces are random: with 24 bytes, 2^80 frames can be sealed before two alike are to be
// expected, and no counter has to survive crashes, retries and takeovers. The associated data is volume,
// object, cell and blocks, so the store cannot pass one frame off as another even without a manifest.
//
// A Sealer is safe for concurrent use.
type Sealer struct {
	aead   cipher.AEAD
	volume Tag
	id     string
}

// NewSealer derives the sealer of a volume from its secret key.
func NewSealer(secret []byte, volume Tag) (*Sealer, error) {
	if len(secret) != KeySize {
		return nil, fmt.Errorf("encryption key of %d bytes, want %d: %w", len(secret), KeySize, ErrKey)
	}
	key, err := hkdf.Key(sha256.New, secret, volume[:], "ratchet volume frames", chacha20poly1305.KeySize)
	if err != nil {
		return nil, fmt.Errorf("derive key: %w", err)
	}
	id, err := hkdf.Key(sha256.New, secret, volume[:], "ratchet volume key id", 8)
	if err != nil {
		return nil, fmt.Errorf("derive key id: %w", err)
	}
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		return nil, fmt.Errorf("make cipher: %w", err)
	}
	return &Sealer{aead: aead, volume: volume, id: hex.EncodeToString(id)}, nil
}

// KeyID tells keys apart without telling anything of them; "" for no key.
func (s *Sealer) KeyID() string {
	if s == nil {
		return ""
	}
	return s.id
}

// binding is what a sealed frame belongs to.
type binding struct {
	epoch, number uint32 // of the object
	cell          uint64
	blocks        uint16
	codec         byte
}

const bindingSize = len(Tag{}) + 4 + 4 + 8 + 2 + 1

// associated appends the associated data of a frame to p.
func (s *Sealer) associated(p []byte, b binding) []byte {
	p = append(p, s.volume[:]...)
	p = binary.LittleEndian.AppendUint32(p, b.epoch)
	p = binary.LittleEndian.AppendUint32(p, b.number)
	p = binary.LittleEndian.AppendUint64(p, b.cell)
	p = binary.LittleEndian.AppendUint16(p, b.blocks)
	return append(p, b.codec)
}

// seal encrypts p[from:] in place, with the nonce before it and the authenticator after it. buf is memory to use.
func (s *Sealer) seal(p []byte, from int, b binding, buf []byte) []byte {
	var zero [sealOverhead]byte
	n := len(p) - from
	p = append(p, zero[:]...)
	copy(p[from+nonceSize:], p[from:from+n])
	_, _ = rand.Read(p[from : from+nonceSize]) // never fails since Go 1.24
	plain := p[from+nonceSize : from+nonceSize+n]
	s.aead.Seal(plain[:0], p[from:from+nonceSize], plain, s.associated(buf[:0], b))
	return p
}

// open decrypts in place what seal made.
func (s *Sealer) open(p []byte, b binding) ([]byte, error) {
	if s == nil {
		return nil, fmt.Errorf("frame is sealed and there is no key: %w", ErrKey)
	}
	if len(p) < sealOverhead {
		return nil, fmt.Errorf("sealed frame of %d bytes: %w", len(p), ErrInvalid)
	}
	out, err := s.aead.Open(p[nonceSize:nonceSize], p[:nonceSize], p[nonceSize:], s.associated(make([]byte, 0, bindingSize), b))
	if err != nil {
		return nil, fmt.Errorf("unseal: %w: %w", ErrInvalid, err)
	}
	return out, nil
}
