package counter

import (
	"encoding/binary"
	"errors"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// command is a TPM command that go-tpm's direct API lacks, authorised by one session on its first
// handle. It does no parameter encryption: nothing sent through it is secret.
type command struct {
	code    tpm2.TPMCC
	handles []tpm2.NamedHandle
	params  []byte
}

var errShort = errors.New("response is too short")

func nvExtend(x tpm2.NamedHandle, data []byte) command {
	p := binary.BigEndian.AppendUint16(nil, uint16(len(data)))
	return command{tpm2.TPMCCNVExtend, []tpm2.NamedHandle{x, x}, append(p, data...)}
}

// disableClear forbids TPM2_Clear with lockout authorisation until platform authorisation allows it.
func disableClear() command {
	h := tpm2.NamedHandle{Handle: tpm2.TPMRHLockout, Name: tpm2.HandleName(tpm2.TPMRHLockout)}
	return command{tpm2.TPMCCClearControl, []tpm2.NamedHandle{h}, []byte{1}}
}

// run sends the command in session s (part 1, 18: command and response with one authorisation).
func (c command) run(t transport.TPM, s tpm2.Session) error {
	if err := s.Init(t); err != nil {
		return err
	}
	if err := s.NewNonceCaller(); err != nil {
		return err
	}
	var handles []byte
	var names []tpm2.TPM2BName
	for _, h := range c.handles {
		handles = binary.BigEndian.AppendUint32(handles, uint32(h.Handle))
		names = append(names, h.Name)
	}
	auth, err := s.Authorize(c.code, c.params, nil, names, 0)
	if err != nil {
		return err
	}
	area := tpm2.Marshal(auth)
	b := binary.BigEndian.AppendUint16(nil, uint16(tpm2.TPMSTSessions))
	b = binary.BigEndian.AppendUint32(b, uint32(10+len(handles)+4+len(area)+len(c.params)))
	b = binary.BigEndian.AppendUint32(b, uint32(c.code))
	b = append(b, handles...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(area)))
	b = append(append(b, area...), c.params...)
	r, err := t.Send(b)
	if err != nil {
		return err
	}
	return c.check(t, s, names, r)
}

func (c command) check(t transport.TPM, s tpm2.Session, names []tpm2.TPM2BName, r []byte) error {
	if len(r) < 10 {
		return errShort
	}
	if rc := tpm2.TPMRC(binary.BigEndian.Uint32(r[6:])); rc != tpm2.TPMRCSuccess {
		return errors.Join(rc, s.CleanupFailure(t))
	}
	if len(r) < 14 || uint64(len(r)) < 14+uint64(binary.BigEndian.Uint32(r[10:])) {
		return errShort
	}
	end := 14 + binary.BigEndian.Uint32(r[10:])
	auth, err := tpm2.Unmarshal[tpm2.TPMSAuthResponse](r[end:])
	if err != nil {
		return err
	}
	return s.Validate(tpm2.TPMRCSuccess, c.code, r[14:end], names, 0, auth)
}
