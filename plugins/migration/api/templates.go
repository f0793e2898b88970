package api

import (
	"encoding/json"

	"github.com/ratchetos/ratchet/plugins/migration/model"
)

// Methods about templates and the types they use.
const (
	MethodTemplates      = "templates.list"   // empty → TemplatesReply
	MethodTemplate       = "templates.show"   // TemplateRequest → TemplateReply
	MethodTemplateStore  = "templates.store"  // StoreRequest → empty
	MethodTemplateDelete = "templates.delete" // TemplateRequest → empty
	MethodTemplateMake   = "templates.make"   // MakeRequest → MakeReply; stores it
	MethodTypes          = "types.list"       // empty → TypesReply
)

// TemplatesReply lists templates by name.
type TemplatesReply struct {
	Templates []TemplateRow `json:"templates"`
}

// TemplateRow is one of a list.
type TemplateRow struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
	Type        string `json:"type,omitempty"`
	// Configured says that it stands in the configuration, where alone it can be changed.
	Configured bool `json:"configured,omitempty"`
	// Selects counts the VMs it means now; -1 when only their agents could tell.
	Selects int `json:"selects"`
}

// TemplateRequest names a template.
type TemplateRequest struct {
	Name string `json:"name"`
}

// TemplateReply is a template with its document.
type TemplateReply struct {
	model.Template
	Document string `json:"document"` // as it was stored
}

// StoreRequest keeps a template under its name, in place of an earlier one. Document is what the operator wrote.
type StoreRequest struct {
	Template json.RawMessage `json:"template"` // a model.Template
	Document string          `json:"document"`
}

// MakeRequest makes a template from what the agents of VMs report.
type MakeRequest struct {
	Name   string         `json:"name"`
	Select model.Selector `json:"select"`
	Type   string         `json:"type,omitempty"` // a configured one
}

// MakeReply is what came of it, and what was learned of each guest.
type MakeReply struct {
	Document string   `json:"document"`
	Notes    []string `json:"notes,omitempty"`
}

// TypesReply lists the configured types.
type TypesReply struct {
	Types []model.VMType `json:"types"`
}
