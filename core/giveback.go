package core

import (
	"context"
	"runtime/debug"
	"time"

	"github.com/ratchetos/ratchet/core/memory"
)

// rest is how long after the start what is cold can be told from what is in use: plugins have given back by then what
// their own start needed (core/plugin).
const rest = 10 * time.Second

// giveBack gives back what only the start needed, which takes seconds while the box serves, and what core's own heap
// does not use any more.
func (a *appliance) giveBack(ctx context.Context) {
	go memory.Trim(ctx.Done())
	if !a.boxed() || !a.released() {
		a.settled.Store(true)
		return
	}
	select {
	case <-time.After(rest):
	case <-ctx.Done():
		return
	}
	if err := a.system.DiscardModules(); err != nil {
		a.complain("modules", err)
	}
	debug.FreeOSMemory() // what the first logins and commands used
	if err := memory.Settle(ctx, memory.Options{Load: a.module, Log: a.log}); err != nil {
		a.complain("memory", err)
	}
	a.settled.Store(true)
	if err := memory.Keep(ctx, ""); err != nil {
		a.complain("memory", err)
	}
}
