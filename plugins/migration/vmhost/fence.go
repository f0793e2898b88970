package vmhost

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/vmhost/client"
)

// fence lets the orders of the newest manager through (invariant M4).
type fence struct {
	file string

	mu     sync.Mutex
	epoch  uint64
	orders map[*order]struct{} // being carried out
}

// order is one that was let through.
type order struct {
	epoch  uint64
	cancel context.CancelFunc
	done   chan struct{}
}

func openFence(file string) (*fence, error) {
	epoch, err := loadEpoch(file)
	if err != nil {
		return nil, err
	}
	return &fence{file: file, epoch: epoch, orders: map[*order]struct{}{}}, nil
}

func (f *fence) highest() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.epoch
}

// check refuses a look under a lower epoch; a look needs none.
func (f *fence) check(header string) error {
	if header == "" {
		return nil
	}
	epoch, err := parseEpoch(header)
	if err != nil {
		return err
	}
	return f.compare(epoch, f.highest())
}

func parseEpoch(header string) (uint64, error) {
	epoch, err := strconv.ParseUint(header, 10, 64)
	if err != nil || epoch == 0 {
		return 0, fmt.Errorf("the header %s is %q: a manager says its epoch, from 1", client.EpochHeader, header)
	}
	return epoch, nil
}

func (f *fence) compare(epoch, highest uint64) error {
	if epoch < highest {
		return fmt.Errorf("epoch %d, and this host knows %d: %w", epoch, highest, hypervisor.ErrFenced)
	}
	return nil
}

// enter lets an order in, or refuses it. A higher epoch than before is kept first; then what older managers ordered is
// broken off and waited for, so that none of it happens after anything of the new one. The order ends with leave.
func (f *fence) enter(ctx context.Context, header string) (_ context.Context, leave func(), err error) {
	epoch, err := parseEpoch(header)
	if err != nil {
		return nil, nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.compare(epoch, f.epoch); err != nil {
		return nil, nil, err
	}
	if epoch > f.epoch {
		if err := save(f.file, epochFile{Version: recordVersion, Epoch: epoch}); err != nil {
			return nil, nil, err
		}
		f.epoch = epoch
	}
	// Whichever order has raised the epoch: what it waits for, or has given up waiting for, may still be going on.
	if err := f.breakOff(ctx, epoch); err != nil {
		return nil, nil, err
	}
	if err := f.compare(epoch, f.epoch); err != nil { // it may have risen while older orders ended
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	o := &order{epoch: epoch, cancel: cancel, done: make(chan struct{})}
	f.orders[o] = struct{}{}
	return ctx, func() {
		cancel()
		f.mu.Lock()
		delete(f.orders, o)
		f.mu.Unlock()
		close(o.done)
	}, nil
}

// breakOff ends all orders under lower epochs. f.mu is held, but while it waits.
func (f *fence) breakOff(ctx context.Context, epoch uint64) error {
	for {
		var o *order
		for o = range f.orders {
			if o.epoch < epoch {
				break
			}
			o = nil
		}
		if o == nil {
			return nil
		}
		o.cancel()
		f.mu.Unlock()
		var err error
		select {
		case <-o.done:
		case <-ctx.Done():
			err = errors.Join(errors.New("an order of an older manager is still being carried out"), ctx.Err())
		}
		f.mu.Lock()
		if err != nil {
			return err
		}
	}
}
