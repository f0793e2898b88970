package lease

import (
	"context"
	crand "crypto/rand"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/ratchetos/ratchet/plugins/dataplane/lease/engine"
)

// State is core's key-value store, for this part alone. Get returns nil and no error for a key that is not there.
type State interface {
	Get(ctx context.Context, key string) ([]byte, error)
	Put(ctx context.Context, key string, value []byte) error
	List(ctx context.Context, prefix string) ([]string, error)
}

// Keys of the store. A claim is below claimPrefix, by service and producer.
const (
	tokenKey    = "token-key"
	longestKey  = "longest-ttl"
	claimPrefix = "claim/"
)

// claim is a value below claimPrefix. Fields are only ever added.
type claim struct {
	Epoch uint64 `json:"epoch"`
	Host  string `json:"host"`
}

// memory is what outlives a run of the plugin.
type memory struct {
	key     [32]byte
	epochs  map[engine.ProducerKey]engine.Claim
	longest time.Duration // of the TTLs that were ever configured
	fresh   bool          // there was no earlier run
}

// remember reads what earlier runs left, and leaves what later ones need.
func remember(ctx context.Context, s State, d Desired) (m memory, err error) {
	key, err := s.Get(ctx, tokenKey)
	if err != nil {
		return m, fmt.Errorf("read the tokens' key: %w", err)
	}
	switch len(key) {
	case len(m.key):
		copy(m.key[:], key)
	case 0:
		m.fresh = true
		_, _ = crand.Read(m.key[:]) // never fails
	default:
		return m, fmt.Errorf("read the tokens' key: it has %d bytes, not %d", len(key), len(m.key))
	}
	if m.longest, err = longest(ctx, s); err != nil {
		return m, err
	}
	if m.epochs, err = claims(ctx, s); err != nil {
		return m, err
	}
	if err := keepLongest(ctx, s, d); err != nil {
		return m, err
	}
	// Last: with it the next run knows that there was this one.
	if m.fresh {
		if err := s.Put(ctx, tokenKey, m.key[:]); err != nil {
			return m, fmt.Errorf("write the tokens' key: %w", err)
		}
	}
	return m, nil
}

func longest(ctx context.Context, s State) (time.Duration, error) {
	b, err := s.Get(ctx, longestKey)
	if err != nil || b == nil {
		return 0, err
	}
	d, err := time.ParseDuration(string(b))
	if err != nil {
		return 0, fmt.Errorf("read the longest TTL: %w", err)
	}
	return d, nil
}

// keepLongest notes the longest TTL before anything is leased for so long: a run after a crash waits for it.
func keepLongest(ctx context.Context, s State, d Desired) error {
	have, err := longest(ctx, s)
	if err != nil {
		return err
	}
	most := have
	for _, service := range d.Services {
		most = max(most, service.TTL+service.TTL/1000)
	}
	if most == have {
		return nil
	}
	if err := s.Put(ctx, longestKey, []byte(most.String())); err != nil {
		return fmt.Errorf("write the longest TTL: %w", err)
	}
	return nil
}

func claims(ctx context.Context, s State) (map[engine.ProducerKey]engine.Claim, error) {
	keys, err := s.List(ctx, claimPrefix)
	if err != nil {
		return nil, fmt.Errorf("list claims: %w", err)
	}
	out := make(map[engine.ProducerKey]engine.Claim, len(keys))
	for _, key := range keys {
		service, producer, ok := strings.Cut(strings.TrimPrefix(key, claimPrefix), "/")
		if !ok {
			continue
		}
		b, err := s.Get(ctx, key)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", key, err)
		}
		var c claim
		if err := json.Unmarshal(b, &c); err != nil {
			return nil, fmt.Errorf("read %s: %w", key, err)
		}
		out[engine.ProducerKey{Service: service, Producer: producer}] = engine.Claim(c)
	}
	return out, nil
}

func saveClaim(ctx context.Context, s State, key engine.ProducerKey, c engine.Claim) error {
	b, err := json.Marshal(claim(c))
	if err != nil {
		return err
	}
	if err := s.Put(ctx, claimPrefix+key.Service+"/"+key.Producer, b); err != nil {
		return fmt.Errorf("write the claim of %s: %w", key.Producer, err)
	}
	return nil
}
