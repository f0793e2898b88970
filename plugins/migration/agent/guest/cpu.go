package guest

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/ratchetos/ratchet/plugins/migration/agent/wire"
)

const cpuDir = "sys/devices/system/cpu"

func (a *Agent) cpus(which string) []int {
	list, _ := cpuList(a.sys.text(cpuDir, which))
	return list
}

// onlineCPUs brings processors online as they appear. The kernel's file says when one has.
func (a *Agent) onlineCPUs(ctx context.Context, want wire.CPUs) (wire.CPUs, error) {
	if n := len(a.cpus("possible")); want.Online < 1 || want.Online > n {
		return wire.CPUs{}, &wire.Error{Code: wire.Refused, Text: fmt.Sprintf("%d CPUs: this kernel has room for %d", want.Online, n)}
	}
	var refused error
	reached := poll(ctx, func() bool {
		online := a.cpus("online")
		for _, n := range a.cpus("present") {
			if len(online) >= want.Online {
				break
			}
			if slices.Contains(online, n) {
				continue
			}
			if refused = a.sys.set("1", cpuDir, "cpu"+strconv.Itoa(n), "online"); refused == nil {
				online = a.cpus("online")
			}
		}
		return len(online) >= want.Online
	})
	return a.cpusReached(reached, want, refused)
}

// offlineCPUs starts from the highest: it is the one that was plugged last and will be pulled first.
func (a *Agent) offlineCPUs(ctx context.Context, want wire.CPUs) (wire.CPUs, error) {
	if want.Online < 1 {
		return wire.CPUs{}, &wire.Error{Code: wire.BadRequest, Text: "at least one CPU stays online"}
	}
	var refused error
	reached := poll(ctx, func() bool {
		online := a.cpus("online")
		for _, n := range slices.Backward(online) {
			if len(online) <= want.Online {
				break
			}
			if err := a.sys.set("0", cpuDir, "cpu"+strconv.Itoa(n), "online"); err != nil {
				refused = err
				continue
			}
			online = a.cpus("online")
		}
		return len(online) <= want.Online
	})
	return a.cpusReached(reached, want, refused)
}

func (a *Agent) cpusReached(reached bool, want wire.CPUs, refused error) (wire.CPUs, error) {
	now := wire.CPUs{Online: len(a.cpus("online"))}
	if reached {
		return now, nil
	}
	text := fmt.Sprintf("%d CPUs are online, not %d; present are %s", now.Online, want.Online, a.sys.text(cpuDir, "present"))
	if refused != nil {
		text += ": " + refused.Error()
	}
	return now, &wire.Error{Code: wire.NotReached, Text: text}
}
