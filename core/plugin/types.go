package plugin

import (
	"errors"
	"fmt"

	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
)

// The messages of the contract, under the names that plugin authors use.
type (
	Descriptor = *pluginpb.Descriptor
	Diagnostic = *pluginpb.Diagnostic
	Want       = *pluginpb.Want
	Event      = *pluginpb.Event
)

// ErrNeedsRestart is returned by Feature.Configure when the section can only be applied by a new process.
var ErrNeedsRestart = errors.New("needs a restart of the plugin")

func diagnosticf(s pluginpb.Diagnostic_Severity, path, format string, args ...any) Diagnostic {
	return &pluginpb.Diagnostic{Severity: s, Path: path, Message: fmt.Sprintf(format, args...)}
}
