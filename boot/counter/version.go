package counter

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/bits"

	"github.com/google/go-tpm/tpm2"
)

// AuthK derives the authorisation value of K from core's key, as text: go-tpm 0.9.8 and TPMs treat
// zero bytes in such values in their own ways.
func AuthK(coreKey []byte) []byte {
	m := hmac.New(sha256.New, coreKey)
	m.Write([]byte("ratchet K 1"))
	return []byte(hex.EncodeToString(m.Sum(nil)[:16]))
}

// Floor is the lowest security version that V's bits leave to run.
func Floor(v uint64) uint { return uint(max(bits.Len64(v)-1, 0)) }

// RaiseV sets the bits of V that refuse every security version below floor, for ever. auth is K's
// value, AuthK of core's key. It works after the cap; raising to what V says already changes nothing.
func (c *Chip) RaiseV(auth []byte, floor uint) error {
	if floor > MaxVersion {
		return fmt.Errorf("raise V: security version %d, at most %d", floor, MaxVersion)
	}
	return c.setV(auth, 1<<floor<<1-1, true)
}

func (c *Chip) setV(auth []byte, value uint64, written bool) error {
	v, err := indexV()
	if err != nil {
		return err
	}
	h, err := v.at(written, false).named()
	if err != nil {
		return err
	}
	err = c.underPolicy(func(p tpm2.TPMISHPolicy) error {
		s, err := c.plain()
		if err != nil {
			return err
		}
		secret := secretK(use{session: s, auth: auth})
		secret.PolicySession = p
		if _, err := secret.Execute(&c.t); err != nil {
			return fmt.Errorf("prove K: %w", err)
		}
		return nil
	}, func(s *session) error {
		return nvSetBits(h, value).run(&c.t, use{session: s})
	})
	return explain("raise V", err)
}

// secretK asks for proof of K's value, by a session s; s is nil where only the digest is computed.
func secretK(s tpm2.Session) tpm2.PolicySecret {
	x := indexK()
	h := tpm2.NamedHandle{Handle: HandleK}
	if n, err := tpm2.NVName(&x.public); err == nil { // no field of x can fail it
		h.Name = *n
	}
	return tpm2.PolicySecret{AuthHandle: with(h, s)}
}

func nameV() (tpm2.NamedHandle, error) {
	v, err := indexV()
	if err != nil {
		return tpm2.NamedHandle{}, err
	}
	return v.at(true, false).named()
}

// RenewK gives K the value auth, whatever it was before. It needs the recovery key, so it is done at
// provisioning, when core's key is made.
func (c *Chip) RenewK(recoveryKey string, auth []byte) error {
	if err := c.root(); err != nil {
		return err
	}
	return c.defineK(OwnerAuth(recoveryKey), auth)
}

func (c *Chip) defineK(owner, auth []byte) error {
	if err := c.forget(owner, HandleK); err != nil { // whatever is there
		return err
	}
	return c.define(indexK(), owner, auth)
}

// makeV defines V where there is none and gives it its first value, which is no bit. K gets a value
// that is forgotten right away: whoever needs one renews it.
func (c *Chip) makeV(state State, owner []byte) error {
	if state == Written {
		return nil
	}
	v, err := indexV()
	if err != nil {
		return err
	}
	random := make([]byte, 32)
	if _, err := rand.Read(random); err != nil {
		return fmt.Errorf("define K: %w", err)
	}
	once := AuthK(random)
	if err := c.defineK(owner, once); err != nil {
		return err
	}
	if state == Absent {
		if err := c.define(v, owner, nil); err != nil {
			return err
		}
	}
	return c.setV(once, 0, false)
}

// nvSetBits ORs a value into an index of bits.
func nvSetBits(x tpm2.NamedHandle, value uint64) command {
	return command{tpm2.TPMCCNVSetBits, []tpm2.NamedHandle{x, x}, binary.BigEndian.AppendUint64(nil, value)}
}
