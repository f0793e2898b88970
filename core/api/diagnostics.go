package api

import (
	"github.com/ratchetos/ratchet/core/api/apipb"
	"github.com/ratchetos/ratchet/core/config"
)

// Diagnostics turns what a check of a configuration found into the form of the API. The box and
// ratchetctl, which checks without one, report alike.
func Diagnostics(found config.Diagnostics) []*apipb.ConfigDiagnostic {
	out := make([]*apipb.ConfigDiagnostic, len(found))
	for i, d := range found {
		out[i] = &apipb.ConfigDiagnostic{
			File: d.File, Line: uint32(d.Line), Column: uint32(d.Column), Severity: string(d.Severity),
			Path: d.Path, Message: d.Message, Text: d.Detail(),
		}
	}
	return out
}
