package plugin

import (
	"errors"
	"fmt"

	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
)

// The messages of the contract, under the names that plugin authors use.
type (
	// Descriptor says what a plugin is.
	Descriptor = *pluginpb.Descriptor
	// Diagnostic is something about a section.
	Diagnostic = *pluginpb.Diagnostic
	// Want is a wish for hardware, a socket, a directory or memory.
	Want = *pluginpb.Want
	// Event is a plugin's health and what it shows.
	Event = *pluginpb.Event
)

// ErrNeedsRestart is returned by Feature.Configure when the section can only be applied by a new process.
var ErrNeedsRestart = errors.New("needs a restart of the plugin")

// ErrUnavailable is returned by Host.Call when the plugin that is asked does not serve just now.
var ErrUnavailable = errors.New("the plugin does not serve just now")

func diagnosticf(s pluginpb.Diagnostic_Severity, path, format string, args ...any) Diagnostic {
	return &pluginpb.Diagnostic{Severity: s, Path: path, Message: fmt.Sprintf(format, args...)}
}
