package slot

import (
	"errors"
	"fmt"
)

// ErrNoFirmware says that a machine was started without UEFI, which would keep something for the next boot.
var ErrNoFirmware = errors.New("this machine was started without UEFI, nothing can be left for the next boot")

// recoveryAsked makes the next boot stop in the recovery console.
const recoveryAsked = "RatchetRecovery"

// AskRecovery makes the next boot stop in the recovery console, once.
func (f Firmware) AskRecovery() error {
	if !f.There() {
		return ErrNoFirmware
	}
	return f.Variables.Set(recoveryAsked, VendorRatchet, []byte{1})
}

// RecoveryAsked says whether the next boot stops in the recovery console.
func (f Firmware) RecoveryAsked() (bool, error) {
	if !f.There() {
		return false, nil
	}
	b, err := f.get(recoveryAsked, VendorRatchet)
	return b != nil, err
}

// TakeRecovery says whether this boot was asked to stop there, and takes the wish away first: somebody who switches
// off in the console must not find it again.
func (f Firmware) TakeRecovery() (bool, error) {
	asked, err := f.RecoveryAsked()
	if err != nil || !asked {
		return false, err
	}
	if err := f.Variables.Delete(recoveryAsked, VendorRatchet); err != nil {
		return true, fmt.Errorf("the next boot stops in the recovery console again: %w", err)
	}
	return true, nil
}
