package attach

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// Keeper holds the tokens and the gates of a gateway's volumes.
type Keeper struct {
	save func(Registry) error
	now  func() time.Time

	mu       sync.RWMutex
	registry Registry
	gates    map[string]*Gate
	names    map[string]string // of the writers, by volume; see Remember
	keep     func(map[string]string)
}

// ErrNotServed is returned for a volume that is not up.
var ErrNotServed = errors.New("volume is not served now")

// NewKeeper takes the tokens that were kept. save keeps them again, durably, before a change takes effect; nil keeps
// them in memory only.
func NewKeeper(registry Registry, save func(Registry) error) *Keeper {
	if save == nil {
		save = func(Registry) error { return nil }
	}
	return &Keeper{save: save, now: time.Now, registry: registry, gates: make(map[string]*Gate)}
}

// Serve puts a gate in front of a volume that comes up. Its clients may come as soon as this returns.
func (k *Keeper) Serve(name string, v Volume) *Gate {
	g := NewGate(v)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.gates[name] = g
	return g
}

// Leave takes a volume out.
func (k *Keeper) Leave(name string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.gates, name)
}

// Gate returns that of a volume that is served.
func (k *Keeper) Gate(name string) (*Gate, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if g := k.gates[name]; g != nil {
		return g, nil
	}
	return nil, fmt.Errorf("volume %s: %w", name, ErrNotServed)
}

// Make gives an identity a token and returns its secret, which is not kept.
func (k *Keeper) Make(volume, identity string, rights Rights) (secret string, err error) {
	secret = rand.Text()
	return secret, k.change(func(r *Registry) error { return r.Make(volume, identity, rights, secret, k.now()) })
}

// Revoke takes a token back and closes the connections that came with it.
func (k *Keeper) Revoke(volume, identity string) error {
	if err := k.change(func(r *Registry) error { return r.Revoke(volume, identity) }); err != nil {
		return err
	}
	// Who came in between is in the gate by now or finds the token gone: see Exports.
	if g, err := k.Gate(volume); err == nil {
		g.Expel(identity)
	}
	return nil
}

// Open lets everyone in to a volume again, and everyone write. The volume has to be up: who writes is on its disk.
func (k *Keeper) Open(ctx context.Context, volume string) error {
	g, err := k.Gate(volume)
	if err != nil {
		return err
	}
	if err := g.Open(ctx); err != nil {
		return fmt.Errorf("let everyone write to %s: %w", volume, err)
	}
	return k.change(func(r *Registry) error { r.Open(volume); return nil })
}

// Remember tells what the writers of volumes are called, of which the disks have only hashes, and has new names kept.
// It is called before the first volume is served.
func (k *Keeper) Remember(names map[string]string, keep func(map[string]string)) {
	k.names, k.keep = names, keep
}

// Writer names who alone may write to a volume that is served, "" if there is nobody like that. Among are those that need no
// token.
func (k *Keeper) Writer(volume string, among ...string) string {
	g, err := k.Gate(volume)
	if err != nil {
		return ""
	}
	epoch, writer := g.Serving()
	if epoch == 0 || writer == Everyone {
		return ""
	}
	k.mu.RLock()
	defer k.mu.RUnlock()
	known := append(slices.Clone(among), k.names[volume])
	for _, t := range k.registry.List(volume) {
		known = append(known, t.Identity)
	}
	for _, name := range known {
		if WriterOf(name) == writer {
			return name
		}
	}
	return fmt.Sprintf("unknown-%x", writer[:4]) // it had a token once
}

// List returns the tokens of a volume.
func (k *Keeper) List(volume string) []Token {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.registry.List(volume)
}

// Closed reports whether a volume wants a token.
func (k *Keeper) Closed(volume string) bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.registry.Closed(volume)
}

// change makes a new registry, keeps it, and only then goes by it.
func (k *Keeper) change(do func(*Registry) error) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	next := k.registry.clone()
	if err := do(&next); err != nil {
		return err
	}
	if err := k.save(next); err != nil {
		return fmt.Errorf("keep the tokens: %w", err)
	}
	k.registry = next
	return nil
}

// admit returns what a client may do who gave a volume's name and perhaps a secret. as is the identity of clients
// that need no token because of where they come from.
func (k *Keeper) admit(volume, secret string, hasSecret bool, as string) (Token, bool) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if hasSecret {
		return k.registry.Identify(volume, secret)
	}
	return Token{Identity: as, Rights: ReadWrite}, as != "" || !k.registry.Closed(volume)
}

// Handover gives a volume from one identity to another. TO has to be one that can come in as a writer; among lists
// those that need no token.
func (k *Keeper) Handover(ctx context.Context, volume, from, to string, among ...string) (epoch uint64, err error) {
	g, err := k.Gate(volume)
	if err != nil {
		return 0, err
	}
	if err := k.known(volume, to, among); err != nil {
		return 0, fmt.Errorf("hand over %s: %w", volume, err)
	}
	if epoch, err = g.Handover(ctx, from, to); err != nil {
		return 0, fmt.Errorf("hand over %s from %s to %s: %w", volume, from, to, err)
	}
	k.name(volume, to)
	return epoch, nil
}

// name remembers what a writer is called, for when it has no token any more.
func (k *Keeper) name(volume, writer string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.names[volume] == writer {
		return
	}
	next := maps.Clone(k.names)
	if next == nil {
		next = make(map[string]string)
	}
	next[volume], k.names = writer, next
	if k.keep != nil {
		k.keep(next)
	}
}

// known refuses a TO that nobody could be: the volume would be without a writer.
func (k *Keeper) known(volume, to string, among []string) error {
	for _, id := range among {
		if id == to {
			return nil
		}
	}
	for _, t := range k.List(volume) {
		switch {
		case t.Identity != to:
		case t.Rights == ReadWrite:
			return nil
		default:
			return fmt.Errorf("the token of %s allows it to read only: revoke it and make one that allows to write", to)
		}
	}
	return fmt.Errorf("%q %w: make one with  ratchetctl volume token make %s %s", to, ErrNoToken, volume, to)
}
