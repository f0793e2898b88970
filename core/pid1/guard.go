package pid1

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"time"
)

// Guard runs core and keeps process 1 alive after it: when run panics or returns, the box
// stays up with the reason on the console, still reaps orphans and still answers the
// signals that turn it off. After a while it restarts by itself, unless restart is 0. As
// any other process Guard returns what run returned and lets a panic pass.
func Guard(log *slog.Logger, restart time.Duration, run func() int) int {
	if os.Getpid() != 1 {
		return run()
	}
	what := guarded(run)
	ctx := context.Background()
	asked := Signals(ctx) // before the message that says so
	next := "the box stays up without it; ctrl-alt-del restarts"
	var alone <-chan time.Time
	if restart > 0 {
		next = fmt.Sprintf("the box restarts in %s; ctrl-alt-del restarts at once", restart)
		alone = time.After(restart)
	}
	fmt.Fprintf(os.Stderr, "ratchet: core has ended: %s\nratchet: %s, the power button turns off\n", what, next)
	go (&Reaper{Log: log}).Run(ctx)
	end := Reboot
	select {
	case end = <-asked:
	case <-alone:
	}
	Finish(end, log)
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
