package objstore

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"
)

// ProbeConditional does what Store.Probe promises, by means of the store's own methods. A
// service that ignores conditions would let two gateways overwrite each other's head.
func ProbeConditional(ctx context.Context, s Store) (err error) {
	var id [12]byte
	rand.Read(id[:])
	key := "probe/" + hex.EncodeToString(id[:])
	first, second := []byte("first"), []byte("second")

	defer func() {
		// Clean up also when ctx has ended, but not for long.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if e := s.Delete(ctx, key); err == nil && e != nil {
			err = fmt.Errorf("probe: delete: %w", e)
		}
		if err != nil {
			err = &probeError{err, key}
		}
	}()
	etag, err := s.PutIfAbsent(ctx, key, first)
	if err != nil {
		return fmt.Errorf("probe: create: %w", err)
	}
	if _, err := s.PutIfAbsent(ctx, key, second); !errors.Is(err, ErrExists) {
		return verdict("create over an object", err)
	}
	if _, err := s.PutIfMatch(ctx, key, second, "00000000000000000000000000000000"); !errors.Is(err, ErrPrecondition) {
		return verdict("replace with a wrong etag", err)
	}
	next, err := s.PutIfMatch(ctx, key, second, etag)
	if err != nil {
		return fmt.Errorf("probe: replace: %w", err)
	}
	data, have, err := s.Load(ctx, key)
	if err != nil {
		return fmt.Errorf("probe: load: %w", err)
	}
	if !bytes.Equal(data, second) || have != next || have == etag {
		return fmt.Errorf("probe: %w: wrote %q as %s, read %q as %s", ErrNoConditional, second, next, data, have)
	}
	return nil
}

// probeError leaves the probe's random name out of the text: who tries again and again says only what is new.
type probeError struct {
	err error
	key string
}

func (e *probeError) Error() string { return strings.ReplaceAll(e.err.Error(), e.key, "probe/…") }
func (e *probeError) Unwrap() error { return e.err }

// verdict tells a store that ignores a condition from one that failed.
func verdict(what string, err error) error {
	if err == nil {
		return fmt.Errorf("probe: %w: %s succeeded", ErrNoConditional, what)
	}
	return fmt.Errorf("probe: %s: %w", what, err)
}
