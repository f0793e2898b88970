package boot

import (
	"context"
	"errors"
	"fmt"

	"github.com/ratchetos/ratchet/boot/vault"
	"github.com/ratchetos/ratchet/boot/verdict"
)

// Reset implements recovery.Box. The order can be cut anywhere: keys of the data first, then LEDGER, which
// isolates the box, then the TPM, which makes it a new one. A request has no recovery key, so the TPM stays
// as it is: the box is erased, and comes back with somebody at its console.
func (o *operator) Reset(ctx context.Context, key string) (string, error) {
	if o.disk.Ledger == "" {
		return "", errors.New("the boot disk was not found; there is nothing to reset")
	}
	// Whatever comes of it, the box does not go on with the keys that it has in memory.
	o.fail("reset", "keys, data and configuration were to be destroyed")
	o.shut()
	o.vault = sealedVault{}
	if err := o.destroyVolumes(); err != nil {
		return "", err
	}
	if err := o.formatLedger(); err != nil {
		return "", err
	}
	if key == "" {
		o.again(ctx)
		o.j = verdict.Judge(o.facts)
		return "keys, data and configuration are destroyed; the box needs somebody with the recovery key at its console", nil
	}
	if err := o.chip.Disown(key); err != nil {
		return "", fmt.Errorf("keys, data and configuration are destroyed, but the TPM still knows this box: %w; type factory-reset again", err)
	}
	o.fail("reset", "keys, data and configuration were destroyed")
	return "keys, data and configuration are destroyed; the next boot finds a new box", nil
}

// destroyVolumes leaves nothing on the boot disk that any key opens.
func (o *operator) destroyVolumes() error {
	if o.Volumes == nil || o.disk.State == "" {
		return nil
	}
	return o.withVolumes(func(state vault.Volume, data *vault.Volume) error {
		err := state.Destroy()
		if data != nil {
			err = errors.Join(err, data.Destroy())
		}
		return err
	})
}
