package counter

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// State of an NV index.
type State int

// The zero value is Absent, as on a new TPM.
const (
	Absent    State = iota // not defined
	Unwritten              // defined as it must be, never written
	Written                // defined as it must be and readable
	Foreign                // E only: written, all as it must be but for the policy of another image
	Locked                 // E only: as Written, but locked: the TPM was not reset since the last lock
)

func (s State) String() string {
	switch s {
	case Absent:
		return "absent"
	case Unwritten:
		return "unwritten"
	case Written:
		return "written"
	case Foreign:
		return "foreign"
	case Locked:
		return "locked"
	}
	return fmt.Sprintf("state(%d)", int(s))
}

// Expected is the content of E.
type Expected struct {
	Counter uint64
	Ledger  Digest // SHA-256 of the ledger record
}

// Snapshot is what Read found. Values are meaningful for Written (E: also Foreign and Locked).
type Snapshot struct {
	SRK      []byte // Name of the storage root key the sessions were salted to
	C, E, J  State
	V        State
	Counter  uint64
	Bits     uint64 // of V; Floor says what they refuse
	Expected Expected
	Journal  Digest
	// Policy is the authPolicy of E as found; it differs from the one asked for when E is Foreign.
	Policy Digest
}

// PCRs are the values of the SHA-256 bank that the policy names: 7 is Secure Boot, 11 the image, 12
// and 13 what the stub took from outside of the image.
type PCRs struct {
	PCR7, PCR11, PCR12, PCR13 Digest
}

// ReadPCRs reads them. PCRs are not authenticated; a lie makes E unreadable under the computed Name,
// and never writable.
func (c *Chip) ReadPCRs() (PCRs, error) {
	r, err := tpm2.PCRRead{PCRSelectionIn: selectPCRs(7, 11, 12, 13)}.Execute(&c.t)
	if err != nil {
		return PCRs{}, explain("read PCRs", err)
	}
	var p PCRs
	into := []*Digest{&p.PCR7, &p.PCR11, &p.PCR12, &p.PCR13}
	got := r.PCRValues.Digests
	if len(got) != len(into) {
		return PCRs{}, errNoBank
	}
	for i, d := range got {
		if copy(into[i][:], d.Buffer) != len(into[i]) {
			return PCRs{}, errNoBank
		}
	}
	return p, nil
}

var errNoBank = errors.New("read PCRs: the TPM has no active SHA-256 bank; enable it in the firmware setup")

// Read reads C, E, J and V under their computed Names; policy is E's authPolicy, locked whether E has
// been locked since the TPM was reset. Errors: ErrUnprovisioned when there is no storage root key,
// *NameError, ErrForged, ErrLockout, *TransportError, or the TPM's own.
func (c *Chip) Read(policy Digest, locked bool) (Snapshot, error) {
	var s Snapshot
	if _, err := c.plain(); err != nil {
		return s, err
	}
	s.SRK, s.Policy = c.srkName, policy
	var b []byte
	var err error
	if s.C, b, err = c.readIndex(indexC(), false); err != nil {
		return s, err
	}
	if s.C == Written {
		s.Counter = binary.BigEndian.Uint64(b)
	}
	if s.E, b, err = c.readIndex(indexE(policy), locked); err != nil {
		return s, err
	}
	if s.E == Foreign {
		if b, err = c.readForeign(&s); err != nil {
			return s, err
		}
	}
	if s.E >= Written {
		s.Expected.Counter = binary.BigEndian.Uint64(b)
		copy(s.Expected.Ledger[:], b[8:])
	}
	if s.J, b, err = c.readIndex(indexJ(), false); err != nil {
		return s, err
	}
	copy(s.Journal[:], b)
	v, err := indexV()
	if err != nil {
		return s, err
	}
	if s.V, b, err = c.readIndex(v, false); err != nil {
		return s, err
	}
	if s.V == Written {
		s.Bits = binary.BigEndian.Uint64(b)
	}
	return s, nil
}

// readIndex reads a written index and finds out, when that is refused, what is there instead.
func (c *Chip) readIndex(x index, locked bool) (State, []byte, error) {
	b, err := c.nvRead(x.at(true, locked))
	switch {
	case err == nil && len(b) == int(x.public.DataSize):
		return Written, b, nil
	case err == nil:
		return Absent, nil, fmt.Errorf("read %s: got %d bytes, want %d", x.name, len(b), x.public.DataSize)
	case errors.Is(err, tpm2.TPMRCHandle):
		return Absent, nil, nil
	case errors.Is(err, tpm2.TPMRCBadAuth), errors.Is(err, tpm2.TPMRCAuthFail), errors.Is(err, tpm2.TPMRCNVUninitialized):
		state, err := c.inspect(x, locked)
		if state == Locked {
			b, err = c.nvRead(x.at(true, true))
			err = explain("read locked "+x.name, err)
		}
		return state, b, err
	}
	return Absent, nil, explain("read "+x.name, err)
}

func (c *Chip) nvRead(x index) ([]byte, error) {
	h, err := x.named()
	if err != nil {
		return nil, err
	}
	s, err := c.plain()
	if err != nil {
		return nil, err
	}
	r, err := tpm2.NVRead{AuthHandle: with(h, use{session: s}), NVIndex: h, Size: x.public.DataSize}.Execute(&c.t)
	if err != nil {
		return nil, err
	}
	return r.Data.Buffer, nil
}

// inspect explains a Name that did not fit. Its source, NV_ReadPublic, is not authenticated: it
// chooses between refusals and never leads to more trust, except that E under another policy is
// read again under that policy's Name.
func (c *Chip) inspect(x index, locked bool) (State, error) {
	r, err := tpm2.NVReadPublic{NVIndex: x.public.NVIndex}.Execute(&c.t)
	if err != nil {
		return Absent, explain("inspect "+x.name, err)
	}
	is, err := r.NVPublic.Contents()
	if err != nil {
		return Absent, fmt.Errorf("inspect %s: %w", x.name, err)
	}
	same := func(want tpm2.TPMSNVPublic) bool { return string(tpm2.Marshal(want)) == string(tpm2.Marshal(*is)) }
	if same(x.at(false, false).public) {
		return Unwritten, nil
	}
	if x.name == "E" {
		if !locked && same(x.at(true, true).public) {
			return Locked, nil
		}
		foreign := x.at(true, locked).public
		foreign.AuthPolicy = is.AuthPolicy
		if len(is.AuthPolicy.Buffer) == len(Digest{}) && same(foreign) {
			return Foreign, nil
		}
	}
	return Absent, &NameError{x.name, difference(x.at(true, locked).public, *is)}
}

// readForeign reads E of another image under the Name that its own policy gives it.
func (c *Chip) readForeign(s *Snapshot) ([]byte, error) {
	r, err := tpm2.NVReadPublic{NVIndex: HandleE}.Execute(&c.t)
	if err != nil {
		return nil, explain("inspect E", err)
	}
	is, err := r.NVPublic.Contents()
	if err != nil || len(is.AuthPolicy.Buffer) != len(s.Policy) {
		return nil, &NameError{"E", "its policy changed while it was read"}
	}
	copy(s.Policy[:], is.AuthPolicy.Buffer)
	b, err := c.nvRead(indexE(s.Policy).at(true, is.Attributes.WriteLocked))
	if err != nil {
		return nil, explain("read E of another image", err)
	}
	if len(b) != sizeE {
		return nil, fmt.Errorf("read E of another image: got %d bytes, want %d", len(b), sizeE)
	}
	return b, nil
}

func difference(want, is tpm2.TPMSNVPublic) string {
	switch {
	case is.NameAlg != want.NameAlg:
		return fmt.Sprintf("name algorithm %#x instead of %#x", is.NameAlg, want.NameAlg)
	case is.DataSize != want.DataSize:
		return fmt.Sprintf("%d bytes instead of %d", is.DataSize, want.DataSize)
	case string(tpm2.Marshal(is.Attributes)) != string(tpm2.Marshal(want.Attributes)):
		return fmt.Sprintf("attributes %x instead of %x", tpm2.Marshal(is.Attributes), tpm2.Marshal(want.Attributes))
	case string(is.AuthPolicy.Buffer) != string(want.AuthPolicy.Buffer):
		return "another policy"
	}
	return "the TPM shows the right public area but refuses its Name"
}
