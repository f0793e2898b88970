package systems

import (
	"encoding/binary"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/ratchetos/ratchet/qemu/box"
	"github.com/ratchetos/ratchet/qemu/vm"
)

// Commands, handles and answers on the bus (TPM 2.0 Library, part 2), as somebody with a logic analyser knows them.
const (
	ccNVIncrement = 0x134
	ccNVExtend    = 0x136
	ccNVRead      = 0x14e

	handleC = 0x01800A01
	handleE = 0x01800A02

	rcFailure = 0x101
	rcLockout = 0x921
)

// code and index of a command: what it does and, for one on an NV index, on which.
func code(command []byte) uint32 { return binary.BigEndian.Uint32(command[6:]) }

func index(command []byte) uint32 {
	if len(command) < 18 {
		return 0
	}
	return binary.BigEndian.Uint32(command[14:])
}

// refuse is an answer without anything but a code.
func refuse(rc uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte{0x80, 0x01, 0, 0, 0, 10}, rc)
}

// older is the answer of a counter or of E as it was an attempt ago: one less in the low byte of the number, which both
// begin with. Before it are header, parameter size and data size.
func older(answer []byte) []byte {
	if code(answer) == 0 && len(answer) > 24 {
		answer[23]--
	}
	return answer
}

// from passes everything until the first NV_Read, which is init's: firmware and kernel do not read indexes.
func from(what vm.Bus) vm.Bus {
	var begun atomic.Bool
	return func(command []byte, send func([]byte) ([]byte, error)) ([]byte, error) {
		if code(command) == ccNVRead {
			begun.Store(true)
		}
		if begun.Load() {
			return what(command, send)
		}
		return send(command)
	}
}

// rewrite changes what the TPM answers to an NV_Read of one index.
func rewrite(handle uint32, how func([]byte) []byte) vm.Bus {
	return func(command []byte, send func([]byte) ([]byte, error)) ([]byte, error) {
		answer, err := send(command)
		if err == nil && code(command) == ccNVRead && index(command) == handle {
			answer = how(answer)
		}
		return answer, err
	}
}

// bus puts somebody between board and TPM. Whatever he makes of the answers, the box is isolated, says why, and its
// console answers; none of it takes longer than a boot.
func (s *counterSuite) bus(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		row, name, code string
		extra           bool
		bus             vm.Bus
	}{
		{rowBus, "NV_Read of C answered with an older value", "tpm-forged", false, rewrite(handleC, older)},
		{rowBus, "NV_Read of E answered with an older value", "tpm-forged", true, rewrite(handleE, older)},
		{rowBus, "NV_Read of C answered without its session", "tpm-forged", true, rewrite(handleC, func(a []byte) []byte {
			// The value alone, under the tag of an answer that nobody authenticated.
			n := 10 + 2 + int(binary.BigEndian.Uint16(a[14:]))
			b := append(append([]byte(nil), a[:10]...), a[14:14+n-10]...)
			binary.BigEndian.PutUint16(b, 0x8001)
			binary.BigEndian.PutUint32(b[2:], uint32(n))
			return b
		})},
		{rowTPMOdd, "locked out", "tpm-lockout", false, from(func([]byte, func([]byte) ([]byte, error)) ([]byte, error) {
			return refuse(rcLockout), nil
		})},
		{rowTPMOdd, "TPM in failure mode from init's first read on", "tpm-error", true, from(func([]byte, func([]byte) ([]byte, error)) ([]byte, error) {
			return refuse(rcFailure), nil
		})},
		{rowTPMOdd, "answers cut short", "tpm-forged", true, from(func(command []byte, send func([]byte) ([]byte, error)) ([]byte, error) {
			answer, err := send(command)
			if err == nil && len(answer) > 16 {
				answer = answer[:len(answer)-5]
				binary.BigEndian.PutUint32(answer[2:], uint32(len(answer)))
			}
			return answer, err
		})},
		{rowTPMOdd, "answers of random bytes", "tpm-error", true, from(func(command []byte, send func([]byte) ([]byte, error)) ([]byte, error) {
			answer, err := send(command)
			if err == nil {
				for i := 6; i < len(answer); i++ {
					answer[i] ^= byte(0x5a + 7*i)
				}
			}
			return answer, err
		})},
		{rowTPMOdd, "no answer any more", "tpm-error", true, from(func([]byte, func([]byte) ([]byte, error)) ([]byte, error) {
			return nil, errPulled
		})},
	} {
		if c.extra && testing.Short() {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := s.machine(folder(c.name))
			must(t, box.Clone(dir, s.machine("life")))
			o := s.options(t, dir)
			o.Bus = c.bus
			m := boot(t, o)
			next := m.isolated(c.code)
			must(t, m.Close())
			s.attack(t, c.row, c.name, "isolated, %s, live console", c.code)
			seen(t, "%s: isolated, %s, next: %s", c.name, c.code, next)
		})
	}
}

var errPulled = errors.New("the wires to the TPM are cut")
