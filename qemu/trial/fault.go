package trial

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"

	"github.com/ratchetos/ratchet/qemu/lab"
)

// Kind of a fault.
type Kind string

// Kinds of faults that meet a move.
const (
	None       Kind = "none"
	KillSource Kind = "source killed" // its QEMU, at a call
	KillTarget Kind = "destination killed"
	Cut        Kind = "stream cut" // at a byte
	Stall      Kind = "stream stalled"
	Mute       Kind = "answers stalled" // at a byte of them
	Vanish     Kind = "destination vanished from the network"
	Crash      Kind = "manager crashed" // at a write of the journal
	Refuse     Kind = "call failed"     // and was not carried out
	Lose       Kind = "answer lost"     // of a call that was carried out
)

// errInjected is how a call fails that was told to.
var errInjected = errors.New("injected fault")

// fault is one, armed for one move. The zero value never strikes.
type fault struct {
	kind  Kind
	call  string // "before Finish b"
	bytes int64
	write int
	after bool

	kill func(host string)
	from string // hosts of the move
	to   string

	mu     sync.Mutex
	struck bool
	relays []*lab.Relay
}

func (f *fault) String() string {
	switch {
	case f.kind == None:
		return "no fault"
	case f.call != "":
		return fmt.Sprintf("%s %s", f.kind, f.call)
	}
	switch f.kind {
	case Cut, Stall, Mute, Vanish:
		return fmt.Sprintf("%s at byte %d", f.kind, f.bytes)
	case Crash:
		return fmt.Sprintf("%s at write %d of the journal, which is done: %t", f.kind, f.write, f.after)
	}
	return string(f.kind)
}

// at strikes when the call is the one.
func (f *fault) at(call string) error {
	f.mu.Lock()
	if f.struck || f.call != call {
		f.mu.Unlock()
		return nil
	}
	f.struck = true
	f.mu.Unlock()
	switch f.kind {
	case Vanish:
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, r := range f.relays {
			r.StallAt(r.Bytes())
		}
	case KillSource:
		f.kill(f.from)
	case KillTarget:
		f.kill(f.to)
	case Refuse, Lose:
		return errInjected
	}
	return nil
}

// journalled tells whether the manager dies at this write.
func (f *fault) journalled(n int, after bool) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.struck || f.kind != Crash || f.write != n || f.after != after {
		return false
	}
	f.struck = true
	return true
}

// between puts a relay in front of an address if the fault is of the stream.
func (f *fault) between(address string) (string, error) {
	switch f.kind {
	case Cut, Stall, Mute, Vanish:
	default:
		return address, nil
	}
	r, err := lab.NewRelay(address)
	if err != nil {
		return "", err
	}
	switch f.kind {
	case Cut:
		r.CutAt(f.bytes)
	case Mute:
		r.MuteAt(f.bytes)
	case Vanish:
		if f.call != "" { // at the call
			r.MuteAt(math.MaxInt64)
			break
		}
		r.MuteAt(0)
		r.StallAt(f.bytes)
	default:
		r.StallAt(f.bytes)
	}
	f.mu.Lock()
	f.relays = append(f.relays, r)
	f.mu.Unlock()
	return r.Address(), nil
}

func (f *fault) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.relays {
		r.Close()
	}
}

// draw makes a fault. About a third of all moves meet none.
func draw(r *rand.Rand, from, to string) *fault {
	f := &fault{kind: None, from: from, to: to}
	kinds := []Kind{None, None, KillTarget, KillTarget, KillSource, Cut, Stall, Mute, Vanish, Crash, Crash, Refuse, Lose}
	f.kind = kinds[r.IntN(len(kinds))]
	pick := func(calls ...string) string { return calls[r.IntN(len(calls))] }
	switch f.kind {
	case KillSource:
		f.call = pick("before Prepare "+to, "after Perform "+from, "after Switchover "+from, "after Finish "+to)
	case KillTarget:
		f.call = pick("after Prepare "+to, "after Perform "+from, "after Switchover "+from, "after Complete "+from)
	case Vanish:
		f.call = pick("after Perform "+from, "after Switchover "+from)
	case Mute:
		f.bytes = r.Int64N(4096) // a destination says little, most of it in the handshake
	case Cut, Stall:
		f.bytes = 1 << (6 + r.IntN(21)) // from within the handshake to within memory
		f.bytes += r.Int64N(f.bytes)
	case Crash:
		f.write, f.after = 1+r.IntN(9), r.IntN(2) == 1
	case Refuse, Lose:
		when := map[Kind]string{Refuse: "before ", Lose: "after "}[f.kind]
		f.call = when + pick("Begin "+from, "Prepare "+to, "Perform "+from, "Complete "+from, "Finish "+to, "Confirm "+from)
	}
	return f
}
