package luks

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"io"
)

// The anti-forensic splitter of LUKS1, 2.4: a key blown up to 4,000 stripes, of which each bit is needed,
// so that a disk that keeps a worn copy of one sector keeps no key.

// split fills out, a multiple of the key's length, with stripes that merge to key.
func split(out, key []byte, rand io.Reader) error {
	last := len(out) - len(key)
	if _, err := io.ReadFull(rand, out[:last]); err != nil {
		return fmt.Errorf("make stripes: %w", err)
	}
	subtle.XORBytes(out[last:], diffused(out[:last], len(key)), key)
	return nil
}

// merge is the inverse.
func merge(stripes []byte, n int) []byte {
	last := len(stripes) - n
	key := make([]byte, n)
	subtle.XORBytes(key, diffused(stripes[:last], n), stripes[last:])
	return key
}

// diffused folds stripes of n bytes, diffusing after each.
func diffused(stripes []byte, n int) []byte {
	acc := make([]byte, n)
	for ; len(stripes) > 0; stripes = stripes[n:] {
		subtle.XORBytes(acc, acc, stripes[:n])
		diffuse(acc)
	}
	return acc
}

// diffuse replaces each part as long as a digest by the digest of its number and itself.
func diffuse(b []byte) {
	buf := make([]byte, 4+sha256.Size)
	for i := 0; i*sha256.Size < len(b); i++ {
		part := b[i*sha256.Size : min(len(b), (i+1)*sha256.Size)]
		binary.BigEndian.PutUint32(buf, uint32(i))
		n := copy(buf[4:], part)
		sum := sha256.Sum256(buf[:4+n])
		copy(part, sum[:])
	}
}
