package state

import (
	"context"
	"errors"
	"fmt"
)

// Limits of a key and a value, in bytes.
const (
	MaxKey   = 1024
	MaxValue = 1 << 20
)

// ErrTooLarge is returned by Put for a key or value beyond the limits.
var ErrTooLarge = errors.New("too large for the state store")

// ErrEmptyName is returned by Put and Delete for an empty space or key.
var ErrEmptyName = errors.New("empty space or key")

// Store is a durable map of spaces of keys.
type Store interface {
	// Get returns the value and whether the key exists. The caller owns the value.
	Get(ctx context.Context, space, key string) ([]byte, bool, error)
	// Put sets the key; it is durable on return.
	Put(ctx context.Context, space, key string, value []byte) error
	// Delete removes the key; a missing one is no error.
	Delete(ctx context.Context, space, key string) error
	// List returns the keys of the space with the prefix, sorted by bytes.
	List(ctx context.Context, space, prefix string) ([]string, error)
	// Close ends the store; calls after it fail.
	Close() error
}

func check(space, key string, value []byte) error {
	switch {
	case space == "" || key == "":
		return ErrEmptyName
	case len(space) > MaxKey || len(key) > MaxKey:
		return fmt.Errorf("key of %d bytes, at most %d: %w", len(key), MaxKey, ErrTooLarge)
	case len(value) > MaxValue:
		return fmt.Errorf("value of %d bytes, at most %d: %w", len(value), MaxValue, ErrTooLarge)
	}
	return nil
}
