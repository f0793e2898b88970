package state

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// lockTimeout bounds the wait for another core that has the file open.
const lockTimeout = 2 * time.Second

// Bolt is a Store in one bbolt file.
type Bolt struct {
	db *bbolt.DB
}

var _ Store = (*Bolt)(nil)

// Open opens or makes the file at path. Only one process can have it open.
func Open(path string) (*Bolt, error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout:        lockTimeout,
		NoFreelistSync: true, // rebuilt at open; one page less to write in every Put
		FreelistType:   bbolt.FreelistMapType,
	})
	if errors.Is(err, berrors.ErrTimeout) {
		return nil, fmt.Errorf("open state %s: another core has it open; stop that one first", path)
	}
	if err != nil {
		return nil, fmt.Errorf("open state %s: %w", path, err)
	}
	return &Bolt{db: db}, nil
}

// Get implements Store.
func (b *Bolt) Get(ctx context.Context, space, key string) (value []byte, found bool, err error) {
	if err := ctx.Err(); err != nil {
		return nil, false, err
	}
	err = b.db.View(func(tx *bbolt.Tx) error {
		bucket := tx.Bucket([]byte(space))
		if bucket == nil {
			return nil
		}
		if v := bucket.Get([]byte(key)); v != nil {
			value, found = append([]byte{}, v...), true // v is only valid inside tx
		}
		return nil
	})
	if err != nil {
		return nil, false, fmt.Errorf("get %s/%s: %w", space, key, err)
	}
	return value, found, nil
}

// Put implements Store.
func (b *Bolt) Put(ctx context.Context, space, key string, value []byte) error {
	err := errors.Join(ctx.Err(), check(space, key, value))
	if err == nil {
		err = b.db.Update(func(tx *bbolt.Tx) error {
			bucket, err := tx.CreateBucketIfNotExists([]byte(space))
			if err != nil {
				return err
			}
			return bucket.Put([]byte(key), value)
		})
	}
	if err != nil {
		return fmt.Errorf("put %s/%.40s: %w", space, key, err)
	}
	return nil
}

// Delete implements Store.
func (b *Bolt) Delete(ctx context.Context, space, key string) error {
	err := errors.Join(ctx.Err(), check(space, key, nil))
	if err == nil {
		err = b.db.Update(func(tx *bbolt.Tx) error {
			if bucket := tx.Bucket([]byte(space)); bucket != nil {
				return bucket.Delete([]byte(key))
			}
			return nil
		})
	}
	if err != nil {
		return fmt.Errorf("delete %s/%.40s: %w", space, key, err)
	}
	return nil
}

// List implements Store.
func (b *Bolt) List(ctx context.Context, space, prefix string) (keys []string, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	err = b.db.View(func(tx *bbolt.Tx) error {
		bucket := tx.Bucket([]byte(space))
		if bucket == nil {
			return nil
		}
		c := bucket.Cursor()
		for k, _ := c.Seek([]byte(prefix)); k != nil && bytes.HasPrefix(k, []byte(prefix)); k, _ = c.Next() {
			keys = append(keys, string(k))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", space, err)
	}
	return keys, nil
}

// Close implements Store.
func (b *Bolt) Close() error { return b.db.Close() }
