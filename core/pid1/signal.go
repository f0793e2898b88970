package pid1

import (
	"context"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// Action is how the box ends.
type Action int

// What can follow an ordered shutdown.
const (
	PowerOff Action = iota
	Reboot
)

func (a Action) String() string {
	if a == Reboot {
		return "reboot"
	}
	return "power off"
}

// Signals returns a channel with what the first signal asks for: SIGTERM and SIGPWR to
// power off, SIGINT to reboot. It is closed without a value when ctx ends. Later signals
// are swallowed, since the shutdown they ask for is under way.
func Signals(ctx context.Context) <-chan Action {
	in := make(chan os.Signal, 1)
	signal.Notify(in, unix.SIGTERM, unix.SIGPWR, unix.SIGINT)
	out := make(chan Action, 1)
	go func() {
		defer close(out)
		select {
		case <-ctx.Done():
			signal.Stop(in)
		case s := <-in:
			if s == unix.SIGINT {
				out <- Reboot
				return
			}
			out <- PowerOff
		}
	}()
	return out
}
