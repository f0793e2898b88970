package host

import (
	"context"
	"fmt"
)

// epochBlock is how many epochs are reserved with one durable write, so that a restart does
// not wait for the disk.
const epochBlock = 1024

// epoch counts the starts of one plugin on this box. It only grows: after a restart of core
// it goes on behind the reserved block.
type epoch struct {
	next, limit uint64
}

// nextEpoch returns the epoch of the coming Start.
func (u *unit) nextEpoch(ctx context.Context) (uint64, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.epoch.next >= u.epoch.limit {
		key := "epoch/" + u.name
		v, found, err := u.host.store.Get(ctx, coreSpace, key)
		if err != nil {
			return 0, err
		}
		limit := uint64(0)
		if found {
			if _, err := fmt.Sscan(string(v), &limit); err != nil {
				return 0, fmt.Errorf("read epoch of %s: %w", u.name, err)
			}
		}
		if err := u.host.store.Put(ctx, coreSpace, key, fmt.Append(nil, limit+epochBlock)); err != nil {
			return 0, err
		}
		u.epoch = epoch{next: limit, limit: limit + epochBlock}
	}
	u.epoch.next++
	return u.epoch.next, nil
}
