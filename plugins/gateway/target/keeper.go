package target

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/ratchetos/ratchet/plugins/gateway/target/nbdlink"
)

// lookEvery is how often the gateway is asked for the size of a volume: NBD has no way to be told.
const lookEvery = 2 * time.Second

// keeper looks after the device of one volume: it attaches it, gives it a new connection when it has lost one, and
// passes changes of the volume's size on.
type keeper struct {
	s      *service
	volume string
	ctx    context.Context
	cancel context.CancelFunc
	dead   chan struct{} // has room for one

	mu      sync.Mutex
	index   int // -1: no device
	live    bool
	size    uint64
	resized bool  // since somebody took notice
	problem error // why it is not live
}

func newKeeper(s *service, volume string) *keeper {
	k := &keeper{s: s, volume: volume, dead: make(chan struct{}, 1), index: -1}
	k.ctx, k.cancel = context.WithCancel(s.ctx)
	return k
}

func (k *keeper) backend() string { return backendPrefix + k.volume }

// run ends with the keeper's context. The device is not its to end: the export goes first.
func (k *keeper) run() {
	for pause := firstRetry; k.ctx.Err() == nil; {
		err := k.attach()
		k.note(err)
		if err == nil {
			pause = firstRetry
			k.watch()
			continue
		}
		sleep(k.ctx, pause)
		pause = min(2*pause, lastRetry)
	}
}

// adopt takes the device that a process before this one has made, if there is one.
func (k *keeper) adopt(found []nbdlink.Found) {
	for _, f := range found {
		if f.Backend == k.backend() {
			k.mu.Lock()
			defer k.mu.Unlock()
			k.index, k.size = f.Index, f.Size
			return
		}
	}
}

// attach gives the device a connection, and makes the device if there is none. A device that has a live one keeps it:
// the kernel drops the new socket then, without a word.
func (k *keeper) attach() error {
	f, e, err := nbdlink.Dial(k.ctx, k.s.socket, k.volume)
	if err != nil {
		return err
	}
	defer f.Close() // the kernel has its own reference, if it took it
	k.s.netlink.Lock()
	defer k.s.netlink.Unlock()
	if k.ctx.Err() != nil {
		return k.ctx.Err()
	}
	index := k.number()
	if index >= 0 {
		err = k.s.control.Reconnect(index, k.backend(), f)
		if err == nil {
			return k.resize(index, e.Size)
		}
		if !errors.Is(err, nbdlink.ErrGone) {
			return err
		}
	}
	index, err = k.s.control.Connect(f, k.backend(), e)
	if err != nil {
		return err
	}
	k.mu.Lock()
	k.index, k.size = index, e.Size
	k.mu.Unlock()
	k.s.log.Info("volume is a block device", "volume", k.volume, "device", nbdlink.Device(index), "size", e.Size)
	return nil
}

// watch returns when the connection is lost or the keeper ends.
func (k *keeper) watch() {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-k.dead:
			k.note(errors.New("the gateway's process ended"))
			return
		case <-k.ctx.Done():
			return
		case <-tick.C:
			if err := k.look(); err != nil && k.ctx.Err() == nil {
				k.s.log.Debug("look at the size of a volume", "volume", k.volume, "err", err)
			}
		}
	}
}

// look compares the size of the volume with that of the device.
func (k *keeper) look() error {
	ctx, cancel := context.WithTimeout(k.ctx, lookEvery)
	defer cancel()
	e, err := nbdlink.Query(ctx, k.s.socket, k.volume)
	if err != nil {
		return err
	}
	k.s.netlink.Lock()
	defer k.s.netlink.Unlock()
	return k.resize(k.number(), e.Size)
}

// resize follows the volume. The caller holds netlink.
func (k *keeper) resize(index int, size uint64) error {
	k.mu.Lock()
	same := k.size == size
	k.mu.Unlock()
	if same {
		return nil
	}
	if err := k.s.control.Resize(index, k.backend(), size); err != nil {
		return err
	}
	k.mu.Lock()
	k.size, k.resized = size, true
	k.mu.Unlock()
	k.s.log.Info("volume has another size", "volume", k.volume, "size", size)
	k.s.poke()
	return nil
}

// note records how it went, and has it shown.
func (k *keeper) note(err error) {
	k.mu.Lock()
	changed := k.live != (err == nil) || fmt.Sprint(k.problem) != fmt.Sprint(err)
	k.live, k.problem = err == nil, err
	k.mu.Unlock()
	if changed && err != nil && k.ctx.Err() == nil {
		k.s.log.Warn("volume has no connection to the gateway", "volume", k.volume, "err", err)
	}
	k.s.poke()
}

// lost says that the connection may be gone.
func (k *keeper) lost() {
	select {
	case k.dead <- struct{}{}:
	default:
	}
}

func (k *keeper) is(devices []int) bool { return slices.Contains(devices, k.number()) }

func (k *keeper) number() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.index
}

// device returns the block device, if there is one; its connection may be lost for the moment.
func (k *keeper) device() (string, bool) {
	if i := k.number(); i >= 0 {
		return nbdlink.Device(i), true
	}
	return "", false
}

// tookSize says whether the size has changed since it was asked last.
func (k *keeper) tookSize() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	was := k.resized
	k.resized = false
	return was
}

// status for people.
func (k *keeper) status() (index int, live bool, size uint64, problem error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.index, k.live, k.size, k.problem
}
