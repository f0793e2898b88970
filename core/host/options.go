package host

import (
	"log/slog"

	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/core/sandbox"
	"github.com/ratchetos/ratchet/core/state"
	"github.com/ratchetos/ratchet/core/supervise"
)

// Program is a plugin that can be enabled.
type Program struct {
	// Descriptor says what the plugin is; its name is also argv[0] of its processes.
	Descriptor plugin.Descriptor
	// Path of the executable; "" is core's own, which holds the built-in plugins.
	Path string
}

// Grant is what the configuration allows a plugin.
type Grant struct {
	Memory uint64 // bytes; 0 is no limit
	PIDs   int    // processes and threads; 0 is no limit
	// Capabilities narrows what the descriptor asks for; nil grants all of it.
	Capabilities []string
}

// Section is a plugin's part of the configuration.
type Section struct {
	JSON  []byte
	Grant Grant
}

// Options of a Host. Programs is needed, the rest has defaults.
type Options struct {
	Programs []Program
	// StateDir holds the plugins' directories and core's state file. "" is a temporary one
	// that goes with the host: a box without a state partition.
	StateDir string
	// RunDir holds sockets; "" is a temporary one.
	RunDir string
	// Store replaces the state file; the caller closes it.
	Store state.Store
	// Resources opens NICs and disks; nil on a machine where files stand in for them.
	Resources Resources
	// Isolated is why the boot verdict keeps the hardware back; no plugin is started then.
	Isolated string
	// Policy of restarts; the zero value is the product's.
	Policy supervise.Policy
	// NoSandbox runs plugins as core's user and unconfined, for debugging.
	NoSandbox bool
	// NoSpare starts no spares, on a machine short of memory.
	NoSpare bool
	// PluginLogLevel is the level of the plugins' loggers.
	PluginLogLevel slog.Level
	// LogTee gets every line that a plugin logs. It must not block.
	LogTee func(LogLine)
	Log    *slog.Logger
	// Audit gets a line (message "audit") for each call of a plugin to another; Log when nil.
	Audit *slog.Logger
}

// trusted says whether the program is the companion of a plugin and in core's own executable.
func (p Program) trusted() bool { return p.Path == "" && p.Descriptor.GetCompanionOf() != "" }

// allowed is what of the capabilities that a program wants is granted.
func (g Grant) allowed(p Program) ([]string, error) {
	known := sandbox.Capability
	if p.trusted() {
		known = sandbox.CompanionCapability
	}
	var out []string
	for _, c := range p.Descriptor.GetCapabilities() {
		if _, err := known(c); err != nil {
			return nil, err
		}
		granted := g.Capabilities == nil
		for _, name := range g.Capabilities {
			granted = granted || name == c
		}
		if granted {
			out = append(out, c)
		}
	}
	return out, nil
}
