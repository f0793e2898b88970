package attempt

import (
	"context"

	"github.com/ratchetos/ratchet/boot/verdict"
)

// Judge is the boot's judgement on TPM and LEDGER as they are now: the devices that E vouches for and
// the attempts that the next boot closes. It changes nothing. A judgement that isolates is no error.
func (m *Manager) Judge(ctx context.Context) (verdict.Judgement, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return verdict.Judgement{}, err
	}
	s, err := m.begin()
	if err != nil {
		return verdict.Judgement{}, err
	}
	return s.j, s.close()
}
