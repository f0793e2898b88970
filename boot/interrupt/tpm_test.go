package interrupt

import (
	"encoding/binary"

	"github.com/google/go-tpm/tpm2"

	"github.com/ratchetos/ratchet/boot/counter"
	"github.com/ratchetos/ratchet/boot/internal/tpmtest"
)

// lasting are the commands whose effect outlasts a reset.
var lasting = map[tpm2.TPMCC]string{
	tpm2.TPMCCNVDefineSpace: "NV_DefineSpace", tpm2.TPMCCNVUndefineSpace: "NV_UndefineSpace",
	tpm2.TPMCCNVWrite: "NV_Write", tpm2.TPMCCNVIncrement: "NV_Increment", 0x136: "NV_Extend", 0x135: "NV_SetBits",
	0x129: "HierarchyChangeAuth", tpm2.TPMCCEvictControl: "EvictControl",
	tpm2.TPMCCClear: "Clear", 0x127: "ClearControl", 0x13A: "DictionaryAttackParameters",
}

// wire is the bus between a box and its TPM.
type wire struct {
	tpmtest.Machine
	b *box
}

// Send implements transport.TPM.
func (w wire) Send(cmd []byte) ([]byte, error) {
	name, lasts := lasting[tpm2.TPMCC(binary.BigEndian.Uint32(cmd[6:]))]
	if !lasts {
		if err := w.b.power.read(); err != nil {
			return nil, err
		}
		return w.Machine.Send(cmd)
	}
	// Authorisation handle and index are the first two handles of NV_Write.
	isE := name == "NV_Write" && len(cmd) >= 18 && tpm2.TPMHandle(binary.BigEndian.Uint32(cmd[14:])) == counter.HandleE
	if isE && w.b.running.fault == diesBeforeE {
		w.b.power.kill()
	}
	if err := w.b.power.effect(name); err != nil {
		return nil, err
	}
	r, err := w.Machine.Send(cmd)
	if isE && w.b.running.fault == diesAfterE {
		w.b.power.kill()
	}
	return r, err
}

// Close implements transport.TPMCloser: the machine keeps its TPM.
func (wire) Close() error { return nil }
