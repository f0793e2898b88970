package attempt

import (
	"context"
	"errors"
	"fmt"

	"github.com/ratchetos/ratchet/boot/counter"
)

// RaiseV makes the TPM refuse every image below a security version, for ever. coreKey is core's, which init left it.
// Raising to what is refused already changes nothing.
func (m *Manager) RaiseV(ctx context.Context, coreKey []byte, floor uint) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	tpm, err := m.opener.TPM()
	if err != nil {
		return fmt.Errorf("open TPM: %w", err)
	}
	chip := counter.Open(tpm)
	return errors.Join(chip.RaiseV(counter.AuthK(coreKey), floor), chip.Close(), tpm.Close())
}
