package vni

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/ratchetos/ratchet/plugins/dataplane/vni/failover"
)

// Keys of the state store. Values are JSON with a format number (invariant X1).
const (
	recordPrefix = "vni/"
	format       = 1
)

type stored[T any] struct {
	Format int `json:"format"`
	Value  T   `json:"value"`
}

func (p *Part) put(ctx context.Context, key string, value any) error {
	b, err := json.Marshal(stored[any]{format, value})
	if err != nil {
		return err
	}
	if err := p.o.State.Put(ctx, key, b); err != nil {
		return fmt.Errorf("store %s: %w", key, err)
	}
	return nil
}

func get[T any](ctx context.Context, s State, key string) (v T, err error) {
	b, err := s.Get(ctx, key)
	if err != nil || b == nil {
		return v, err
	}
	var r stored[T]
	if err := json.Unmarshal(b, &r); err != nil {
		return v, fmt.Errorf("read %s: %w", key, err)
	}
	if r.Format != format {
		return v, fmt.Errorf("read %s: format %d is of another version of Ratchet", key, r.Format)
	}
	return r.Value, nil
}

func (p *Part) load(ctx context.Context) (term uint64, records map[uint32]failover.Record, err error) {
	if term, err = get[uint64](ctx, p.o.State, "term"); err != nil {
		return 0, nil, err
	}
	keys, err := p.o.State.List(ctx, recordPrefix)
	if err != nil {
		return 0, nil, fmt.Errorf("list VNIs: %w", err)
	}
	records = map[uint32]failover.Record{}
	for _, k := range keys {
		id, err := strconv.ParseUint(strings.TrimPrefix(k, recordPrefix), 10, 24)
		if err != nil {
			continue // not one of ours
		}
		if records[uint32(id)], err = get[failover.Record](ctx, p.o.State, k); err != nil {
			return 0, nil, err
		}
	}
	return term, records, nil
}
