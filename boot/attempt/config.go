package attempt

import (
	"context"
	"errors"
	"fmt"

	"github.com/ratchetos/ratchet/boot/ledger"
)

// ApplyConfig makes yaml the configuration of the next boots: an attempt, then the configuration
// slot that is not in force is written and read back. The one in force stays whole until then, and
// after it as the one before. signer is who asked. The same configuration again is no attempt.
func (m *Manager) ApplyConfig(ctx context.Context, yaml []byte, signer string) (Attempt, error) {
	if len(yaml) == 0 || len(yaml) > ledger.MaxConfig {
		return Attempt{}, fmt.Errorf("apply configuration: %d bytes, must be 1 to %d", len(yaml), ledger.MaxConfig)
	}
	return m.with(ctx, func(s *session) (Attempt, error) {
		from, to := s.j.Config.Now, ledger.Sum(yaml)
		if from == to {
			return Attempt{Open: len(s.j.Open)}, nil
		}
		a, err := m.open(s, ledger.Intent{
			Target: ledger.TargetConfig, From: ledger.OfDigest(from), To: ledger.OfDigest(to), Signer: signer,
		})
		if err != nil {
			return a, err
		}
		if err := m.at("write"); err != nil {
			return a, err
		}
		// Slot -1 is the image's own configuration: then both slots are free.
		if err := s.store.WriteConfig(freeSlot(s.j.ConfigSlot), a.Number, yaml); err != nil {
			return a, fmt.Errorf("attempt %d is open, the configuration was not written: %w", a.Number, err)
		}
		return a, nil
	})
}

func freeSlot(inForce int) int {
	if inForce == 0 {
		return 1
	}
	return 0
}

// Config reads the configuration of the next boot, nil when it is the image's own.
func (m *Manager) Config(ctx context.Context) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s, err := m.begin()
	if err != nil {
		return nil, err
	}
	if err := s.inOrder(); err != nil {
		return nil, fmt.Errorf("read configuration: %w", errors.Join(err, s.close()))
	}
	if s.j.ConfigSlot < 0 {
		return nil, s.close()
	}
	yaml, err := s.store.ReadConfig(s.j.ConfigSlot)
	return yaml, errors.Join(err, s.close())
}
