package boot

import (
	"context"
	"errors"
	"fmt"

	"github.com/ratchetos/ratchet/boot/verdict"
)

// headerArea is what is wiped of STATE and DATA: more than the headers and key slots of LUKS2 take, so
// that nothing is left that any key opens.
const headerArea = 16 << 20

// Reset implements recovery.Box. The order can be cut anywhere: keys of the data first, then LEDGER, which
// isolates the box, then the TPM, which makes it a new one. A request has no recovery key, so the TPM stays
// as it is: the box is erased, and comes back with somebody at its console.
func (o *operator) Reset(ctx context.Context, key string) (string, error) {
	if o.disk.Ledger == "" {
		return "", errors.New("the boot disk was not found; there is nothing to reset")
	}
	for name, node := range map[string]string{partState: o.disk.State, partData: o.disk.Data} {
		if node == "" {
			continue
		}
		if err := o.wipe(node); err != nil {
			return "", fmt.Errorf("wipe %s: %w", name, err)
		}
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
		return "", err
	}
	o.fail("reset", "keys, data and configuration were destroyed")
	return "keys, data and configuration are destroyed; the next boot finds a new box", nil
}

// wipe overwrites where the keys of a partition are.
func (o *operator) wipe(node string) error {
	m, err := o.Open(node, false)
	if err != nil {
		return err
	}
	zeros := make([]byte, 1<<20)
	for at := int64(0); at < headerArea && err == nil; at += int64(len(zeros)) {
		_, err = m.WriteAt(zeros, at)
	}
	return errors.Join(err, m.Sync(), m.Close())
}
