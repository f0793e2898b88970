package migration

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/ratchetos/ratchet/plugins/migration/api"
	"github.com/ratchetos/ratchet/plugins/migration/model"
	"github.com/ratchetos/ratchet/plugins/migration/template"
)

const (
	// stateTemplates is where templates are kept, each under its name.
	stateTemplates = "templates/"
	maxTemplates   = 256
	maxDocument    = 256 << 10
)

// stored is a template in the state store. What it may hold is said by the template's own version.
type stored struct {
	Template model.Template `json:"template"`
	Document string         `json:"document"`
}

// template finds one, in the configuration or the store.
func (m *mover) template(ctx context.Context, name string) (t stored, configured bool, err error) {
	config, _ := m.f.snapshot()
	for _, c := range config.Templates {
		if c.Name == name {
			return stored{c, template.Render(template.Draft{Template: c})}, true, nil
		}
	}
	text, err := m.core.Get(ctx, stateTemplates+name)
	if err == nil && text == nil {
		err = fmt.Errorf("no template %q; `ratchetctl migrate template list` lists them", name)
	}
	if err == nil {
		err = json.Unmarshal(text, &t)
	}
	if err == nil && t.Template.Version > model.TemplateVersion {
		err = fmt.Errorf("template %q has format %d, and this version knows %d: start the newer version of the box again", name, t.Template.Version, model.TemplateVersion)
	}
	return t, false, err
}

// listTemplates answers api.MethodTemplates.
func (m *mover) listTemplates(ctx context.Context, _ none) (any, error) {
	config, rows := m.f.snapshot()
	vms := m.known(config, rows)
	reply := api.TemplatesReply{Templates: []api.TemplateRow{}}
	row := func(t model.Template, configured bool) {
		r := api.TemplateRow{Name: t.Name, Description: t.Description, Type: t.Type.Name, Configured: configured, Selects: -1}
		if len(t.Select.Capabilities) == 0 {
			r.Selects = len(template.Select(t.Select, vms))
		}
		reply.Templates = append(reply.Templates, r)
	}
	for _, t := range config.Templates {
		row(t, true)
	}
	keys, err := m.core.List(ctx, stateTemplates)
	if err != nil {
		return nil, err
	}
	for _, k := range keys {
		t, configured, err := m.template(ctx, k[len(stateTemplates):])
		if err != nil {
			return nil, err
		}
		if !configured { // one of the configuration hides one that was kept
			row(t.Template, false)
		}
	}
	slices.SortFunc(reply.Templates, func(a, b api.TemplateRow) int { return cmp.Compare(a.Name, b.Name) })
	return reply, nil
}

// known are the VMs of all hosts by what needs no question.
func (m *mover) known(config Config, rows []row) (list []template.VM) {
	for _, r := range rows {
		for _, vm := range r.vms {
			list = append(list, template.VM{Name: vm.Name, Host: r.conf.Name, Type: m.given.of(vm.Name), Labels: config.labels(vm.Name)})
		}
	}
	return list
}

func (c Config) labels(vm string) map[string]string {
	for _, x := range c.VMs {
		if x.Name == vm {
			return x.Labels
		}
	}
	return nil
}

// showTemplate answers api.MethodTemplate.
func (m *mover) showTemplate(ctx context.Context, req api.TemplateRequest) (any, error) {
	t, _, err := m.template(ctx, req.Name)
	return api.TemplateReply{Template: t.Template, Document: t.Document}, err
}

// storeTemplate answers api.MethodTemplateStore.
func (m *mover) storeTemplate(ctx context.Context, req api.StoreRequest) (any, error) {
	t, issues := template.Decode(req.Template)
	var errs []error
	for _, i := range issues {
		errs = append(errs, fmt.Errorf("%s: %s", i.Path, i.Message))
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return none{}, m.keepTemplate(ctx, t, req.Document)
}

func (m *mover) keepTemplate(ctx context.Context, t model.Template, document string) error {
	if len(document) > maxDocument {
		return fmt.Errorf("the template is longer than %d bytes", maxDocument)
	}
	if err := m.stands(t.Name); err != nil {
		return err
	}
	keys, err := m.core.List(ctx, stateTemplates)
	if err != nil {
		return err
	}
	if len(keys) >= maxTemplates && !slices.Contains(keys, stateTemplates+t.Name) {
		return fmt.Errorf("%d templates are kept already: delete one with `ratchetctl migrate template delete`", maxTemplates)
	}
	text, err := json.Marshal(stored{t, document})
	if err != nil {
		return err
	}
	return m.core.Put(ctx, stateTemplates+t.Name, text)
}

// stands says that a template is in the configuration, where alone it can be changed.
func (m *mover) stands(name string) error {
	config, _ := m.f.snapshot()
	if slices.ContainsFunc(config.Templates, func(t model.Template) bool { return t.Name == name }) {
		return fmt.Errorf("template %q stands in the configuration: change it there", name)
	}
	return nil
}

// deleteTemplate answers api.MethodTemplateDelete.
func (m *mover) deleteTemplate(ctx context.Context, req api.TemplateRequest) (any, error) {
	if err := m.stands(req.Name); err != nil {
		return nil, err
	}
	if _, _, err := m.template(ctx, req.Name); err != nil {
		return nil, err
	}
	return none{}, m.core.Delete(ctx, stateTemplates+req.Name)
}

// makeTemplate answers api.MethodTemplateMake: it asks the agents of the VMs that are meant, and keeps what fits all.
func (m *mover) makeTemplate(ctx context.Context, req api.MakeRequest) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, inventoryLimit)
	defer cancel()
	named := model.Template{Version: model.TemplateVersion, Name: req.Name, Select: req.Select}
	var errs []error
	template.Check(named, func(path, format string, args ...any) {
		errs = append(errs, fmt.Errorf(path+": "+format, args...))
	})
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	inv, _, err := m.inventory(ctx)
	if err != nil {
		return nil, err
	}
	vms := template.Select(req.Select, inv.VMs)
	if len(vms) == 0 {
		return nil, fmt.Errorf("none of %d VMs is meant; `ratchetctl migrate vms` lists them", len(inv.VMs))
	}
	d, err := template.FromAgents(req.Name, vms)
	if err != nil {
		return nil, err
	}
	config, _ := m.f.snapshot()
	if d.Template.Type, err = config.typeOf(api.MoveRequest{Type: req.Type}); err != nil {
		return nil, err
	}
	document := template.Render(d)
	return api.MakeReply{Document: document}, m.keepTemplate(ctx, d.Template, document)
}
