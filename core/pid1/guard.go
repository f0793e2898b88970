package pid1

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
)

// Guard runs core and keeps process 1 alive after it: when run panics or returns, the box
// stays up with the reason on the console, still reaps orphans and still answers the
// signals that turn it off. As any other process Guard returns what run returned and lets
// a panic pass.
func Guard(log *slog.Logger, run func() int) int {
	if os.Getpid() != 1 {
		return run()
	}
	what := guarded(run)
	ctx := context.Background()
	asked := Signals(ctx) // before the message that says so
	fmt.Fprintf(os.Stderr, "ratchet: core has ended: %s\nratchet: the box stays up without it; ctrl-alt-del restarts, the power button turns off\n", what)
	go (&Reaper{Log: log}).Run(ctx)
	Finish(<-asked, log)
	return 1 // not reached
}

// guarded turns the end of run, panic included, into words.
func guarded(run func() int) (what string) {
	defer func() {
		if p := recover(); p != nil {
			what = fmt.Sprintf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return fmt.Sprintf("exit status %d", run())
}
