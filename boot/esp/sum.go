package esp

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
)

// ErrDiffers says that a slot does not hold what it should.
var ErrDiffers = errors.New("the slot does not hold what was written")

// Sum hashes what is left of r.
func Sum(r io.Reader) (sum [sha256.Size]byte, err error) {
	h := sha256.New()
	err = pieces(r, func(b []byte) error { h.Write(b); return nil })
	h.Sum(sum[:0])
	return sum, err
}

// Same compares what is left of a slot with what was written to it, which costs a fraction of hashing it: for a
// writer whose source was verified. Errors: ErrDiffers, or those of the two.
func Same(slot, want io.Reader) error {
	expected := make([]byte, chunk)
	err := pieces(slot, func(b []byte) error {
		switch _, err := io.ReadFull(want, expected[:len(b)]); {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return ErrDiffers
		case err != nil:
			return fmt.Errorf("read image again: %w", err)
		}
		if !bytes.Equal(b, expected[:len(b)]) {
			return ErrDiffers
		}
		return nil
	})
	if err != nil {
		return err
	}
	if n, err := want.Read(expected[:1]); n != 0 || !errors.Is(err, io.EOF) {
		return ErrDiffers
	}
	return nil
}

// pieces gives what is left of r to use, piece by piece. The next piece is read meanwhile: on a fast medium reading
// takes about as long as what is done with it.
func pieces(r io.Reader, use func([]byte) error) error {
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
		failed <- nil
	}()
	var bad error
	for b := range full {
		if bad == nil {
			bad = use(b)
		}
		if bad == nil {
			free <- b // there is room for both
		} else if free != nil {
			close(free) // no further piece; those that are read already are dropped
			free = nil
		}
	}
	if err := <-failed; err != nil {
		return fmt.Errorf("read slot: %w", err)
	}
	return bad
}
