package guest

import (
	"context"
	"strings"

	"github.com/ratchetos/ratchet/plugins/migration/agent/wire"
	"github.com/ratchetos/ratchet/plugins/migration/model"
)

func (a *Agent) ping(context.Context, nothing) (wire.Pong, error) {
	return wire.Pong{BootID: a.bootID()}, nil
}

func (a *Agent) bootID() string { return a.sys.text("proc/sys/kernel/random/boot_id") }

func (a *Agent) kernel() string { return a.sys.text("proc/sys/kernel/osrelease") }

// Report is what the manager gets when it asks.
func (a *Agent) Report() (model.Guest, error) { return a.report(context.Background(), nothing{}) }

func (a *Agent) report(context.Context, nothing) (model.Guest, error) {
	return model.Guest{
		Agent:   a.version,
		BootID:  a.bootID(),
		Kernel:  a.kernel(),
		OS:      osName(a.sys.text("etc/os-release")),
		CPUs:    len(a.cpus("online")),
		Present: len(a.cpus("present")),
		Memory:  a.memory(),
		Can:     a.capabilities(),
		NICs:    a.nics(),
	}, nil
}

// osName is PRETTY_NAME of os-release(5).
func osName(release string) string {
	for line := range strings.Lines(release) {
		if v, ok := strings.CutPrefix(line, "PRETTY_NAME="); ok {
			return strings.Trim(strings.TrimSpace(v), `"'`)
		}
	}
	return ""
}

const netDir = "sys/class/net"

// nics are the cards, sorted by name; bridges, tunnels and the like have no device behind them.
func (a *Agent) nics() []model.GuestNIC {
	var out []model.GuestNIC
	for _, name := range a.sys.names(netDir) {
		if !a.sys.exists(netDir, name, "device") {
			continue
		}
		out = append(out, model.GuestNIC{
			Name:   name,
			MAC:    strings.ToLower(a.sys.text(netDir, name, "address")),
			Driver: a.sys.link(netDir, name, "device/driver"),
			// Reading carrier of a link that is down fails.
			Carrier: a.sys.text(netDir, name, "carrier") == "1",
		})
	}
	return out
}
