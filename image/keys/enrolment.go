package keys

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/ratchetos/ratchet/boot/enroll"
	"github.com/ratchetos/ratchet/image/sign"
)

// Enrolment returns the updates that put the ring's certificates into firmware, for an image to
// carry. They are made once and kept beside the keys as PK.auth, KEK.auth and db.auth, so that the
// private halves of PK and KEK are wanted again only when a certificate changes.
func (r Ring) Enrolment() (f enroll.Files, err error) {
	err = r.locked(func() error {
		for _, x := range []struct {
			v           enroll.Variable
			role, owner Role
			file        *[]byte
		}{
			{enroll.PK, PlatformKey, PlatformKey, &f.PK},
			{enroll.KEK, ExchangeKey, PlatformKey, &f.KEK},
			{enroll.DB, SecureBoot, ExchangeKey, &f.DB},
		} {
			if *x.file, err = r.update(x.v, x.role, x.owner); err != nil {
				return fmt.Errorf("enrolment of %s: %w", x.v.Name, err)
			}
		}
		return nil
	})
	return f, err
}

// update returns the update of one variable, signed by the owner of the next one up.
func (r Ring) update(v enroll.Variable, role, owner Role) ([]byte, error) {
	certs, err := r.Certificates(role)
	if err != nil {
		return nil, err
	}
	if v == enroll.PK {
		certs = certs[:1] // there is only ever one
	}
	// The newest certificate's birthday, and a second less for each one beside it: the same every time, later than
	// what it replaces when a certificate is added, and when an old one is dropped.
	born := certs[0].NotBefore.Add(-time.Duration(len(certs)-1) * time.Second)
	u := enroll.Update{Time: born, Value: enroll.Lists(certs...)}
	path := filepath.Join(r.Dir, v.Name+".auth")
	if b, err := os.ReadFile(path); err == nil {
		if have, err := enroll.ParseUpdate(b); err == nil && have.Time.Equal(u.Time) && bytes.Equal(have.Value, u.Value) {
			return b, nil
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	id, err := r.Identity(owner)
	if err != nil {
		return nil, err
	}
	if u, err = sign.Variable(v, enroll.Attributes, u, id); err != nil {
		return nil, err
	}
	return u.Bytes(), write(path, u.Bytes(), 0o644)
}
