package plugin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
)

// Feature is what a plugin implements. Serve runs one in a plugin process; `config check`
// calls Describe and Validate of the built-in ones in its own process, so both must be free
// of side effects. The host calls the other methods one at a time, in the order
// Configure, Start, (Configure | Invoke)*, Stop; only calls of Invoke may run beside each
// other (a flush that waits for an upload must not hold up a list).
type Feature interface {
	// Describe never blocks and does not depend on any configuration.
	Describe() Descriptor
	// Validate checks the section and lists the hardware it wants. All errors of one pass together.
	Validate(ctx context.Context, section Section) Validation
	// Configure stores the section; after Start it applies what it can. It returns
	// ErrNeedsRestart when only a new process can apply it.
	Configure(ctx context.Context, section Section) error
	// Start begins to serve. It returns when the plugin is ready or cannot be.
	Start(ctx context.Context, s *Session) error
	// Stop ends service, closes every handle and returns when nothing is in flight.
	Stop(ctx context.Context) error
}

// Configured is implemented by features with a section in the configuration. The schema is apart from the descriptor
// because it takes a while to make and a running box has no use for it.
type Configured interface {
	// ConfigSchema is the section's JSON Schema; see Schema.
	ConfigSchema() string
}

// SchemaOf returns the JSON Schema of a feature's section, "" for none.
func SchemaOf(f Feature) string {
	if c, ok := f.(Configured); ok {
		return c.ConfigSchema()
	}
	return f.Describe().GetConfigSchema()
}

// Drainer is implemented by features that can finish what is in flight before Stop.
type Drainer interface {
	// Drain stops taking new work and returns when none is left or ctx ends.
	// It reports the number of operations still in flight through progress.
	Drain(ctx context.Context, progress func(inFlight uint64)) error
}

// Invoker is implemented by features with a management service of their own.
type Invoker interface {
	// Invoke answers one of the methods that Describe names. Request and reply are JSON. ctx ends when the caller goes
	// away, before Stop, and when a Configure has waited for some seconds.
	Invoke(ctx context.Context, method string, request []byte) ([]byte, error)
}

// Section is a plugin's part of the configuration: a JSON document.
type Section struct {
	JSON       []byte
	Generation uint64
}

// Validation is the outcome of Feature.Validate.
type Validation struct {
	Diagnostics []Diagnostic
	Wants       []Want
}

// Errorf adds an error at path, for example "volumes[0].disk".
func (v *Validation) Errorf(path, format string, args ...any) {
	v.Diagnostics = append(v.Diagnostics, diagnosticf(pluginpb.Diagnostic_ERROR, path, format, args...))
}

// Warnf adds a warning at path.
func (v *Validation) Warnf(path, format string, args ...any) {
	v.Diagnostics = append(v.Diagnostics, diagnosticf(pluginpb.Diagnostic_WARNING, path, format, args...))
}

// Err is nil when nothing is an error, else all errors in one, each with its path.
func (v *Validation) Err() error {
	var all []error
	for _, d := range v.Diagnostics {
		if d.Severity == pluginpb.Diagnostic_ERROR {
			all = append(all, fmt.Errorf("%s: %s", d.Path, d.Message))
		}
	}
	return errors.Join(all...)
}

// Session is what a started feature may use. It is valid until Stop returns.
type Session struct {
	// Epoch grows with every start of this plugin on this box.
	Epoch uint64
	// Handles by the name of the Want that asked for them.
	Handles map[string]Handle
	// Host calls back into core.
	Host Host
	// Report publishes health and tables; it keeps only the latest event and never blocks.
	Report func(Event)
	Log    *slog.Logger
}

// Handle is one piece of hardware or one socket that core handed out.
type Handle struct {
	Name   string
	Kind   pluginpb.Kind
	ID     string
	Device string   // NIC: link name inside the plugin's network namespace
	Size   uint64   // DISK and MEMORY: bytes
	Fresh  bool     // MEMORY: nothing has been written to it before
	File   *os.File // nil for a NIC; the feature owns and closes it
}

// Host is the part of core that a plugin may call.
type Host interface {
	Claim(ctx context.Context, w Want) (Handle, error)
	Release(ctx context.Context, name string) error
	// Get returns nil and no error when the key does not exist.
	Get(ctx context.Context, key string) ([]byte, error)
	Put(ctx context.Context, key string, value []byte) error
	Delete(ctx context.Context, key string) error
	List(ctx context.Context, prefix string) ([]string, error)
	// Call asks another plugin, by a method that a Want of kind METHOD has named. Request and reply are JSON; each
	// side has its own types for them. ErrUnavailable means that it does not serve just now: the call may have been
	// carried out or not, so only what can be repeated is.
	Call(ctx context.Context, plugin, method string, request []byte) ([]byte, error)
}
