package core

import (
	"context"
	"log/slog"
	"net"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// stateMount is where init mounts the STATE partition.
const stateMount = "/state"

// inheritedListeners are the API's sockets when systemd opened them (configs/systemd/ratchet.socket).
func inheritedListeners() ([]net.Listener, error) {
	all, err := activation.Listeners()
	if err != nil {
		return nil, err
	}
	var out []net.Listener
	for _, l := range all {
		if l != nil { // a datagram socket; not ours
			out = append(out, l)
		}
	}
	return out, nil
}

// notifyReady tells systemd, when it is there, and keeps its watchdog fed while ctx lasts.
func notifyReady(ctx context.Context, log *slog.Logger) {
	if sent, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil || !sent {
		return
	}
	every, err := daemon.SdWatchdogEnabled(false)
	if err != nil || every == 0 {
		return
	}
	go func() {
		tick := time.NewTicker(every / 2)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if _, err := daemon.SdNotify(false, daemon.SdNotifyWatchdog); err != nil {
					log.Warn("feed the watchdog", "err", err)
				}
			}
		}
	}()
}

func notifyStopping() {
	// Nobody to tell is no error, and there is nobody to tell about another one.
	_, _ = daemon.SdNotify(false, daemon.SdNotifyStopping)
}

// mounted says whether something is mounted at the path: it is then on another device than its parent.
func mounted(path string) bool {
	var at, above unix.Stat_t
	if unix.Stat(path, &at) != nil || unix.Stat(path+"/..", &above) != nil {
		return false
	}
	return at.Dev != above.Dev
}

// bootClock is the time since the kernel started, suspend included.
func bootClock() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
