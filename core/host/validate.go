package host

import (
	"context"
	"fmt"
	"strings"

	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
	"github.com/ratchetos/ratchet/core/plugin/wire"
)

// InvalidError holds what a plugin has against its section.
type InvalidError struct {
	Plugin      string
	Diagnostics []plugin.Diagnostic
}

func (e *InvalidError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "configuration of %s: ", e.Plugin)
	for i, d := range e.Diagnostics {
		if i > 0 {
			b.WriteString("; ")
		}
		if d.GetPath() != "" {
			b.WriteString(d.GetPath() + ": ")
		}
		b.WriteString(d.GetMessage())
	}
	return b.String()
}

// invalid returns an InvalidError if there are errors among the diagnostics.
func invalid(name string, ds []plugin.Diagnostic) error {
	var errs []plugin.Diagnostic
	for _, d := range ds {
		if d.GetSeverity() == pluginpb.Diagnostic_ERROR {
			errs = append(errs, d)
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return &InvalidError{Plugin: name, Diagnostics: errs}
}

func rejected(name string, ds []plugin.Diagnostic) error {
	if err := invalid(name, ds); err != nil {
		return err
	}
	return &InvalidError{Plugin: name, Diagnostics: []plugin.Diagnostic{{Message: "the plugin rejected it and gave no reason"}}}
}

// Validate asks the plugin what it has against a section and what it would want. A process
// that runs is asked beside its work; without one, a process is started for the question.
func (h *Host) Validate(ctx context.Context, name string, section Section) (plugin.Validation, error) {
	u, err := h.unit(name)
	if err != nil {
		return plugin.Validation{}, err
	}
	if val, ok := h.Ask(ctx, name, section); ok {
		return val, nil
	} // it may have died just now: ask another one
	p, err := h.spawn(ctx, u, section.Grant)
	if err != nil {
		return plugin.Validation{}, fmt.Errorf("validate section of %s: %w", name, err)
	}
	val, err := validate(ctx, p, section)
	p.kill()
	<-p.exited()
	p.close()
	if err != nil {
		return plugin.Validation{}, fmt.Errorf("validate section of %s: %w", name, err)
	}
	return val, nil
}

// Ask is Validate by a process that serves; ok is false when there is none, or it does not answer.
func (h *Host) Ask(ctx context.Context, name string, section Section) (val plugin.Validation, ok bool) {
	u, err := h.unit(name)
	if err != nil {
		return plugin.Validation{}, false
	}
	v, _ := u.look()
	if v.process == nil {
		return plugin.Validation{}, false
	}
	val, err = validate(ctx, v.process, section)
	return val, err == nil
}

func validate(ctx context.Context, p *process, section Section) (plugin.Validation, error) {
	ctx, cancel := context.WithTimeout(ctx, configureTimeout)
	defer cancel()
	r, err := p.rpc.Validate(ctx, &pluginpb.ConfigDocument{Json: section.JSON})
	if err != nil {
		return plugin.Validation{}, wire.Plain(err)
	}
	return plugin.Validation{Diagnostics: r.GetDiagnostics(), Wants: r.GetWants()}, nil
}
