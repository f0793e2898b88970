package esp

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
)

// Sum hashes what is left of r. A slot is read while the piece before is hashed: on a fast medium each takes about as
// long as the other.
func Sum(r io.Reader) (sum [sha256.Size]byte, err error) {
	free, full := make(chan []byte, 2), make(chan []byte, 2)
	for range cap(free) {
		free <- make([]byte, chunk)
	}
	failed := make(chan error, 1)
	go func() {
		defer close(full)
		for b := range free {
			n, err := io.ReadFull(r, b[:chunk])
			if n > 0 {
				full <- b[:n]
			}
			if err != nil {
				if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
					err = nil
				}
				failed <- err
				return
			}
		}
	}()
	h := sha256.New()
	for b := range full {
		h.Write(b)
		free <- b // there is room for both
	}
	if err := <-failed; err != nil {
		return sum, fmt.Errorf("read slot: %w", err)
	}
	h.Sum(sum[:0])
	return sum, nil
}
