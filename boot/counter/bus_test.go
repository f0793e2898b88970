package counter

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/ratchetos/ratchet/boot/internal/tpmtest"
)

// proxy is a man on the TPM's bus.
type proxy struct {
	transport.TPM
	code   tpm2.TPMCC
	change func([]byte) []byte
}

func (p *proxy) Send(b []byte) ([]byte, error) {
	r, err := p.TPM.Send(b)
	if err == nil && tpm2.TPMCC(binary.BigEndian.Uint32(b[6:])) == p.code {
		r = p.change(r)
	}
	return r, err
}

func forgedAnswer(t *testing.T, b *box) {
	for _, c := range []struct {
		what   string
		change func([]byte) []byte
		want   error
	}{
		{"value", func(r []byte) []byte { r[17] ^= 1; return r }, ErrForged},
		{"lockout", func(r []byte) []byte {
			binary.BigEndian.PutUint32(r[6:], uint32(tpm2.TPMRCLockout))
			return r
		}, ErrLockout},
	} {
		chip := Open(&proxy{b.m, tpm2.TPMCCNVRead, c.change})
		if _, err := chip.Read(b.policy, false); !errors.Is(err, c.want) {
			t.Errorf("answer with another %s: %v", c.what, err)
		}
		b.must(chip.Close())
	}
	// Another storage root key: the session cannot be opened in a way that both sides agree on.
	other := Open(&proxy{b.m, tpm2.TPMCCReadPublic, func(r []byte) []byte { r[len(r)/2] ^= 1; return r }})
	if s, err := other.Read(b.policy, false); err == nil {
		t.Errorf("read under a forged storage root key: %+v", s)
	}
}

// lieAboutV lets a revoked image believe that the TPM found nothing wrong with V.
func lieAboutV(_ *testing.T, b *box) {
	b.must(b.Keep(key, b.is, secretOf("one")))
	b.must(b.RaiseV(AuthK([]byte(coreKey)), 2))
	b.must(b.Close())
	// A success with the empty authorisation of a password session.
	yes := []byte{0x80, 0x02, 0, 0, 0, 19, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0}
	b.Chip = Open(&proxy{b.m, tpm2.TPMCCPolicyNV, func(r []byte) []byte { return yes }})
	b.because("write E", b.write(b.image), ErrUnapproved)
	_, err := b.Recall(b.is, b.image)
	b.because("recall", err, ErrUnapproved)
}

// tap listens on the TPM's bus.
type tap struct {
	transport.TPM
	seen []byte
}

func (t *tap) Send(b []byte) ([]byte, error) {
	t.seen = append(t.seen, b...) // before the simulator decrypts it in place
	r, err := t.TPM.Send(b)
	t.seen = append(t.seen, r...)
	return r, err
}

func nothingOnTheBus(t *testing.T, b *box) {
	bus := &tap{TPM: b.m}
	b.Chip = Open(bus)
	secret, auth := secretOf("the box"), AuthK([]byte("another core key"))
	b.must(b.Keep(key, b.is, secret))
	got, err := b.Recall(b.is, b.image)
	b.must(err)
	b.must(b.RenewK(key, auth))
	b.must(b.RaiseV(auth, 1))
	for what, value := range map[string][]byte{"secret": secret, "K's value": auth, "owner's value": OwnerAuth(key)} {
		if bytes.Contains(bus.seen, value) {
			t.Errorf("%s can be read on the bus", what)
		}
	}
	if !bytes.Equal(got, secret) {
		t.Errorf("recalled %q", got)
	}
}

// noLeakedSessions fails in every way there is, more often than the TPM has session slots.
func noLeakedSessions(t *testing.T, b *box) {
	b.must(b.Keep(key, b.is, secretOf("one")))
	tpmtest.Extend(t, b.m, 11, "something else")
	for range 70 {
		b.refused("write E", b.write(b.image))
		b.refused("rebind", b.Rebind("wrong key", b.policy, b.is))
		_, err := b.Recall(b.is, b.image)
		b.refused("recall", err)
		b.refused("raise V", b.RaiseV([]byte("wrong"), 1))
	}
	b.must(b.LockE(b.is))
	b.must(b.Close())
	r, err := tpm2.GetCapability{Capability: tpm2.TPMCapHandles, Property: 0x02000000, PropertyCount: 64}.Execute(b.m)
	b.must(err)
	if h, err := r.CapabilityData.Data.Handles(); err != nil || len(h.Handle) != 0 {
		t.Errorf("sessions left: %v %v", h, err)
	}
}
