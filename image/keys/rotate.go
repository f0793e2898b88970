package keys

import (
	"crypto"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// old is what a role's files are called after the key was rotated: boxes in the field still know it.
func (r Role) old() Role { return r + oldSuffix }

const oldSuffix = "-old"

// Rotate replaces the key of a role and keeps the old one, which images go on trusting until it is
// dropped. The policy key is replaced by its spare, since that is the only other one that boxes are
// sealed to, and a new spare is made; all others by a new key. uri names a new key that is on a token
// already; "" makes one.
func (r Ring) Rotate(role Role, name, uri string) error {
	if role == PolicySpare {
		return errors.New("rotate key policy-spare: it moves with policy")
	}
	return r.locked(func() error {
		if r.Has(role.old()) {
			return fmt.Errorf("rotate key %s: the one before it is still trusted; boxes know no third: "+
				"once none of them needs it, run `image keys drop %s`", role, role)
		}
		next := role
		if role == Policy {
			next = PolicySpare
		}
		if !r.Has(role) || !r.Has(next) {
			return fmt.Errorf("rotate key %s: there is none in %s", role, r.Dir)
		}
		var f halves
		var err error
		if uri == "" { // before anything is moved
			f, err = generated(next, name)
		} else {
			f, err = adopted(next, uri, name)
		}
		if err != nil {
			return fmt.Errorf("rotate key %s: %w", role, err)
		}
		if err := r.move(role, role.old()); err != nil {
			return err
		}
		if role == Policy {
			if err := r.move(PolicySpare, Policy); err != nil {
				return err
			}
		}
		return r.keep(next, f)
	})
}

// Drop removes the old key of a role: images made from now on do not trust it any more.
func (r Ring) Drop(role Role) error {
	return r.locked(func() error {
		if !r.Has(role.old()) {
			return fmt.Errorf("drop key %s: it was not rotated", role)
		}
		for _, name := range role.old().files() {
			if err := os.Remove(filepath.Join(r.Dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("drop key %s: %w", role, err)
			}
		}
		return nil
	})
}

func (r Role) files() []string { return []string{r.keyFile(), r.publicFile(), r.certFile()} }

// move renames what there is of a role's files; a private key that is kept elsewhere has none.
func (r Ring) move(from, to Role) error {
	for i, name := range from.files() {
		err := os.Rename(filepath.Join(r.Dir, name), filepath.Join(r.Dir, to.files()[i]))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("move key %s: %w", from, err)
		}
	}
	return nil
}

// Trusted are the public keys of a role that an image believes, at least one.
//
// For Policy it is the pair that boxes are sealed to, in the order they were sealed. After a
// rotation that is still the old key and its spare, which now signs: a box learns of the new spare
// only when it is sealed anew, so the pair changes when the old key is dropped. For the other roles
// it is the key that signs and, until it is dropped, the one before.
func (r Ring) Trusted(role Role) ([]crypto.PublicKey, error) {
	roles := []Role{role}
	old := r.Has(role.old())
	switch {
	case role == Policy && old:
		roles = []Role{role.old(), role}
	case role == Policy:
		roles = []Role{role, PolicySpare}
	case old:
		roles = append(roles, role.old())
	}
	var all []crypto.PublicKey
	for _, role := range roles {
		pub, err := r.Public(role)
		if err != nil {
			return nil, err
		}
		all = append(all, pub)
	}
	return all, nil
}

// TrustedPEM is Trusted with each key as PEM.
func (r Ring) TrustedPEM(role Role) ([]string, error) {
	pubs, err := r.Trusted(role)
	if err != nil {
		return nil, err
	}
	var texts []string
	for _, pub := range pubs {
		text, err := EncodePublic(pub)
		if err != nil {
			return nil, err
		}
		texts = append(texts, text)
	}
	return texts, nil
}
