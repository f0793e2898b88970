package counter

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/ratchetos/ratchet/boot/internal/tpmtest"
)

const (
	key        = "AAAA-BBBB-CCCC-DDDD"
	secureBoot = "secure boot on"
	image      = "image 1"
	coreKey    = "a key that only core has"
)

// box is one provisioned machine, switched on with image 1.
type box struct {
	t *testing.T
	m tpmtest.Machine
	*Chip
	signers [2]*ecdsa.PrivateKey // of the policy keys
	pcrs    PCRs
	is      Policy // what provisioning would fix now
	policy  Digest // E's
	image   Approval
}

// on opens the TPM as init does.
func (b *box) on() {
	b.t.Helper()
	b.Chip = Open(b.m)
	var err error
	if b.pcrs, err = b.ReadPCRs(); err != nil {
		b.t.Fatal(err)
	}
	b.is.PCR7 = b.pcrs.PCR7
	if b.policy, err = b.is.E(); err != nil {
		b.t.Fatal(err)
	}
	b.image = b.sign(b.signers[0], Release{b.pcrs.PCR11, 1})
}

// sign makes what a vendor puts into an image.
func (b *box) sign(key *ecdsa.PrivateKey, r Release) Approval {
	b.t.Helper()
	d, err := r.ToBeSigned()
	b.must(err)
	x, y, err := ecdsa.Sign(rand.Reader, key, d[:])
	b.must(err)
	a := Approval{Release: r, Key: &key.PublicKey}
	x.FillBytes(a.R[:])
	y.FillBytes(a.S[:])
	return a
}

// boot resets the machine.
func (b *box) boot(orderly bool, sb, image string) {
	b.t.Helper()
	tpmtest.Boot(b.t, b.m, orderly, sb, image)
	b.on()
}

// write writes E under the policy of the box as it is, approved by a.
func (b *box) write(a Approval) error { return b.WriteE(b.is, a, Expected{Counter: 9}, false) }

func (b *box) read() Snapshot {
	b.t.Helper()
	s, err := b.Read(b.policy, false)
	if err != nil {
		b.t.Fatal(err)
	}
	return s
}

func (b *box) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *box) refused(what string, err error) {
	b.t.Helper()
	if err == nil {
		b.t.Errorf("%s: allowed", what)
	}
}

// because checks that something is refused for one reason.
func (b *box) because(what string, err, reason error) {
	b.t.Helper()
	if !errors.Is(err, reason) {
		b.t.Errorf("%s: %v, want %v", what, err, reason)
	}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// newUnowned is a box whose TPM is empty.
func newUnowned(t *testing.T, m tpmtest.Machine) *box {
	b := &box{t: t, m: m, signers: [2]*ecdsa.PrivateKey{newKey(t), newKey(t)}}
	for i, k := range b.signers {
		b.is.Keys[i] = &k.PublicKey
	}
	b.boot(true, secureBoot, image)
	return b
}

// provision does all that a first boot does.
func (b *box) provision() {
	b.t.Helper()
	b.must(b.Provision(key, b.is))
	b.must(b.RenewK(key, AuthK([]byte(coreKey))))
	b.must(b.WriteE(b.is, b.image, Expected{1, sha256.Sum256([]byte("ledger 1"))}, true))
	b.must(b.Close())
}

func newBox(t *testing.T, kind string, provision bool) *box {
	b := newUnowned(t, tpmtest.New(t, kind))
	if provision {
		b.provision()
	}
	return b
}

// TestConformance runs every rule about the TPM objects on every TPM we have.
func TestConformance(t *testing.T) {
	rules := []struct {
		name        string
		provisioned bool
		run         func(t *testing.T, b *box)
	}{
		{"Unprovisioned", false, unprovisioned},
		{"ProvisionTwiceIsIdempotent", false, provisionTwice},
		{"OtherOwner", false, otherOwner},
		{"Provisioned", true, provisioned},
		{"AttemptSurvivesPowerCut", true, attemptSurvives},
		{"EBeyondReach", true, eBeyondReach},
		{"CapAndLock", true, capAndLock},
		{"LockCannotWrite", true, lockCannotWrite},
		{"Rebind", true, rebind},
		{"OnlyApprovedImages", true, onlyApprovedImages},
		{"OnlyUntouchedPCRs", true, onlyUntouchedPCRs},
		{"NextReleaseAndRollback", true, nextReleaseAndRollback},
		{"SpareKey", true, spareKey},
		{"Secret", true, boxSecret},
		{"NothingOnTheBus", true, nothingOnTheBus},
		{"VOnlyRises", true, vOnlyRises},
		{"OtherAttributes", true, otherAttributes},
		{"ForgedAnswer", true, forgedAnswer},
		{"LieAboutV", true, lieAboutV},
		{"PlatformClosed", true, platformClosed},
		{"CommandCount", true, commandCount},
		{"NoLeakedSessions", true, noLeakedSessions},
	}
	for _, kind := range tpmtest.Kinds {
		for _, r := range rules {
			t.Run(kind+"/"+r.name, func(t *testing.T) { r.run(t, newBox(t, kind, r.provisioned)) })
		}
	}
}

func unprovisioned(t *testing.T, b *box) {
	if _, err := b.Read(b.policy, false); !errors.Is(err, ErrUnprovisioned) {
		t.Errorf("read of a new TPM: %v", err)
	}
	b.must(b.Cap(CapIsolated)) // capping must not need a storage root key
	b.must(b.ClosePlatform())
}

func provisionTwice(t *testing.T, b *box) {
	b.must(b.Provision(key, b.is))
	first := b.read()
	if first.E != Unwritten || first.C != Written || first.J != Written {
		t.Fatalf("after provisioning: %+v", first)
	}
	b.boot(false, secureBoot, image) // the power fails before E is written
	b.must(b.Provision("aaaa bbbb-ccccdddd", b.is))
	second := b.read()
	if second.Counter != first.Counter || second.Journal != first.Journal || string(second.SRK) != string(first.SRK) {
		t.Errorf("repeated provisioning changed %+v to %+v", first, second)
	}
	b.must(b.WriteE(b.is, b.image, Expected{Counter: 1}, true))
	b.refused("provisioning over a written E", b.Provision(key, b.is))
}

func otherOwner(t *testing.T, b *box) {
	b.must(b.Provision("somebody else's key", b.is))
	before := Open(b.m)
	has, err := before.permanent()
	b.must(err)
	if !has.ownerSet || !has.lockoutSet || !has.clearDisabled {
		t.Errorf("after provisioning: %+v", has)
	}
	err = b.Rebind(key, b.policy, b.is)
	if !errors.Is(err, ErrOwned) {
		t.Errorf("rebind with another recovery key: %v", err)
	}
}

func provisioned(t *testing.T, b *box) {
	s := b.read()
	if s.C != Written || s.E != Written || s.J != Written || s.V != Written || s.Bits != 0 {
		t.Fatalf("states: %+v", s)
	}
	if s.Expected.Counter != 1 || s.Expected.Ledger != sha256.Sum256([]byte("ledger 1")) {
		t.Errorf("E = %+v", s.Expected)
	}
	seed := sha256.Sum256([]byte(journalSeed))
	if s.Journal != sha256.Sum256(append(make([]byte, 32), seed[:]...)) {
		t.Errorf("J = %x", s.Journal)
	}
	// The Names computed here are the TPM's: NV_ReadPublic is asked in the test only.
	v, err := indexV()
	b.must(err)
	for _, x := range []index{indexC().at(true, false), indexE(b.policy).at(true, false), indexJ().at(true, false), v.at(true, false), indexK()} {
		h, err := x.named()
		b.must(err)
		r, err := tpm2.NVReadPublic{NVIndex: h.Handle}.Execute(b.m)
		b.must(err)
		if string(r.NVName.Buffer) != string(h.Name.Buffer) {
			t.Errorf("%s: Name %x, computed %x", x.name, r.NVName.Buffer, h.Name.Buffer)
		}
	}
	for _, auth := range [][]byte{nil, OwnerAuth(key), LockoutAuth(key)} {
		_, err := tpm2.Clear{AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHLockout, Auth: tpm2.PasswordAuth(auth)}}.Execute(b.m)
		b.refused("TPM2_Clear", err)
	}
}

func attemptSurvives(t *testing.T, b *box) {
	before := b.read()
	intent := sha256.Sum256([]byte("intent"))
	b.must(b.Extend(intent))
	n, err := b.Increment()
	b.must(err)
	if n != before.Counter+1 {
		t.Errorf("C = %d after %d", n, before.Counter)
	}
	b.boot(false, secureBoot, image)
	after := b.read()
	if after.Counter != n || after.Journal != sha256.Sum256(append(before.Journal[:], intent[:]...)) {
		t.Errorf("after a power cut: %+v", after)
	}
	if after.Expected != before.Expected {
		t.Errorf("E moved: %+v", after.Expected)
	}
}

// eBeyondReach tries every way to write or remove C, E and J but the policy.
func eBeyondReach(t *testing.T, b *box) {
	zero := tpm2.TPM2BMaxNVBuffer{Buffer: make([]byte, sizeE)}
	e, err := indexE(b.policy).at(true, false).named()
	b.must(err)
	_, err = tpm2.NVWrite{AuthHandle: with(e, tpm2.PasswordAuth(nil)), NVIndex: e, Data: zero}.Execute(b.m)
	b.refused("write E with an empty value", err)
	owner := tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(OwnerAuth(key))}
	_, err = tpm2.NVWrite{AuthHandle: owner, NVIndex: e, Data: zero}.Execute(b.m)
	b.refused("write E as owner", err)
	c, err := indexC().at(true, false).named()
	b.must(err)
	_, err = tpm2.NVWrite{AuthHandle: with(c, tpm2.PasswordAuth(nil)), NVIndex: c, Data: tpm2.TPM2BMaxNVBuffer{Buffer: make([]byte, 8)}}.Execute(b.m)
	b.refused("write C", err)
	for _, x := range []index{indexC(), indexE(b.policy), indexJ()} {
		h, err := x.at(true, false).named()
		b.must(err)
		_, err = tpm2.NVUndefineSpace{AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)}, NVIndex: h}.Execute(b.m)
		b.refused("undefine "+x.name+" without owner authorisation", err)
	}
	// With owner authorisation C can be redefined: same Name, but never the old value again.
	old := b.read().Counter
	_, err = tpm2.NVUndefineSpace{AuthHandle: owner, NVIndex: c}.Execute(b.m)
	b.must(err)
	b.must(b.define(indexC(), OwnerAuth(key), nil))
	if got := b.read().C; got != Unwritten {
		t.Errorf("redefined C is %v", got)
	}
	b.must(b.increment(false))
	if now := b.read().Counter; now <= old {
		t.Errorf("redefined C = %d, was %d", now, old)
	}
}

func capAndLock(t *testing.T, b *box) {
	was, a := b.is, b.image
	b.must(b.Cap(CapReleased))
	word := sha256.Sum256([]byte(CapReleased))
	now, err := b.ReadPCRs()
	b.must(err)
	if now.PCR11 != sha256.Sum256(append(b.pcrs.PCR11[:], word[:]...)) {
		t.Errorf("PCR 11 after the cap: %x", now.PCR11)
	}
	b.because("write E after the cap", b.write(a), ErrUnapproved)
	b.must(b.LockE(was)) // the lock branch works after the cap
	b.refused("write locked E", b.write(a))
	if s, err := b.Read(b.policy, true); err != nil || s.E != Written {
		t.Errorf("read locked E: %v %v", s.E, err)
	}
	if s, err := b.Read(b.policy, false); err != nil || s.E != Locked || s.Expected.Counter != 1 {
		t.Errorf("read E, expected unlocked: %v %+v %v", s.E, s.Expected, err)
	}
	b.boot(true, secureBoot, image)
	if s := b.read(); s.E != Written {
		t.Errorf("after a reset E is %v", s.E)
	}
}

// lockCannotWrite takes the branch of E that is open to everybody.
func lockCannotWrite(t *testing.T, b *box) {
	h, err := indexE(b.policy).at(true, false).named()
	b.must(err)
	err = b.underPolicy(b.satisfyLock(b.is), func(s *session) error {
		_, err := tpm2.NVWrite{AuthHandle: with(h, use{session: s}), NVIndex: h, Data: tpm2.TPM2BMaxNVBuffer{Buffer: make([]byte, sizeE)}}.Execute(b.m)
		return err
	})
	b.because("write E through the lock branch", err, tpm2.TPMRCPolicyCC)
}

// rebind is a development box whose Secure Boot was switched off.
func rebind(t *testing.T, b *box) {
	old := b.policy
	b.boot(true, "secure boot off", image)
	s := b.read()
	if s.E != Foreign || s.Policy != old || s.Expected.Counter != 1 {
		t.Fatalf("E of another PCR 7: %+v", s)
	}
	b.must(b.Rebind(key, old, b.is))
	if s := b.read(); s.E != Unwritten {
		t.Fatalf("rebound E is %v", s.E)
	}
	b.must(b.WriteE(b.is, b.image, Expected{Counter: 1}, true))
	if s := b.read(); s.E != Written {
		t.Errorf("rebound E is %v", s.E)
	}
}

func otherAttributes(t *testing.T, b *box) {
	h, err := indexJ().at(true, false).named()
	b.must(err)
	_, err = tpm2.NVUndefineSpace{AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(OwnerAuth(key))}, NVIndex: h}.Execute(b.m)
	b.must(err)
	j := indexJ()
	j.public.Attributes.OwnerWrite = true
	b.must(b.define(j, OwnerAuth(key), nil))
	var name *NameError
	if _, err := b.Read(b.policy, false); !errors.As(err, &name) || name.Index != "J" {
		t.Errorf("J with other attributes: %v", err)
	}
}

func platformClosed(t *testing.T, b *box) {
	b.must(b.ClosePlatform())
	b.must(b.ClosePlatform()) // already closed, by firmware for example
	_, err := tpm2.Clear{AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHPlatform, Auth: tpm2.PasswordAuth(nil)}}.Execute(b.m)
	b.refused("TPM2_Clear by the platform", err)
}

func commandCount(t *testing.T, b *box) {
	b.must(b.Keep(key, b.is, secretOf("one")))
	b.boot(true, secureBoot, image)
	b.read()
	b.must(b.ClosePlatform())
	_, err := b.Recall(b.is, b.image)
	b.must(err)
	b.must(b.Cap(CapReleased))
	b.must(b.LockE(b.is))
	b.must(b.Close())
	t.Logf("a clean boot with its secret takes %d commands", b.Commands())
	if b.Commands() > 25 {
		t.Errorf("%d commands, want at most 25", b.Commands())
	}
}
