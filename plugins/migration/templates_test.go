package migration

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/plugins/migration/api"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/hypervisortest"
	"github.com/ratchetos/ratchet/plugins/migration/model"
)

const evacuate = `{"version": 1, "name": "evacuate", "select": {"hosts": ["rack1"]}, "place": {"hosts": ["rack2"]}, "waves": {"canary": 1, "size": 2}}`

func (h *house) store(t *testing.T, template string) {
	t.Helper()
	invoke[none](h.started, api.MethodTemplateStore, api.StoreRequest{Template: json.RawMessage(template), Document: "# mine\n" + template})
}

// TestTemplate: what a template selects is moved wave by wave, also by the process after the one that took the order.
func TestTemplate(t *testing.T) {
	h := newHouse(t)
	h.open(t, `, "at_once": 1, "vms": [{"name": "web1", "labels": {"tier": "front"}}]`)
	h.store(t, evacuate)
	list := invoke[api.TemplatesReply](h.started, api.MethodTemplates, nil).Templates
	if len(list) != 1 || list[0].Selects != 3 || list[0].Configured {
		t.Errorf("templates %+v", list)
	}
	if got := invoke[api.TemplateReply](h.started, api.MethodTemplate, api.TemplateRequest{Name: "evacuate"}); got.Document != "# mine\n"+evacuate {
		t.Errorf("document %q", got.Document)
	}
	p := invoke[api.PlanReply](h.started, api.MethodPlan, api.MoveRequest{Template: "evacuate"})
	if len(p.Plans) != 3 || len(p.Waves) != 2 || len(p.Waves[0]) != 1 || p.Text == "" {
		t.Errorf("plan of the template: %+v", p)
	}
	reply := h.apply(api.MoveRequest{Template: "evacuate"})
	if len(reply.Moves) != 3 || len(reply.Refused) > 0 {
		t.Fatalf("apply: %+v", reply)
	}
	h.ended(t, reply.Moves[0].ID)
	if err := h.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.open(t, `, "at_once": 1`)
	for _, m := range reply.Moves {
		// The one that was under way when the process ended was undone; its failure ends the rest of the template.
		if got := h.ended(t, m.ID); got.State != "moved" && got.State != "undone" && got.State != stateNotBegun {
			t.Errorf("%s: %+v", m.VM, got)
		}
	}
	h.runsOn(t, reply.Moves[0].VM, "rack2")

	invoke[none](h.started, api.MethodTemplateDelete, api.TemplateRequest{Name: "evacuate"})
	if list := invoke[api.TemplatesReply](h.started, api.MethodTemplates, nil).Templates; len(list) != 0 {
		t.Errorf("templates after the last was deleted: %+v", list)
	}
}

// TestCanary: the first VM of a template cannot be moved, so the others stay where they are.
func TestCanary(t *testing.T) {
	h := newHouse(t)
	h.world.Inject(func(c hypervisortest.Call) hypervisortest.Fault {
		if c.Name == "Prepare" {
			return hypervisortest.FailBefore
		}
		return hypervisortest.None
	})
	h.open(t, "")
	h.store(t, evacuate)
	reply := h.apply(api.MoveRequest{Template: "evacuate"})
	states := map[string]int{}
	for _, m := range reply.Moves {
		states[h.ended(t, m.ID).State]++
		h.runsOn(t, m.VM, "rack1")
	}
	if states["undone"] != 1 || states[stateNotBegun] != 2 {
		t.Errorf("moves ended as %v", states)
	}
}

func TestTemplateIsMadeOfWhatAgentsReport(t *testing.T) {
	h := newHouse(t)
	h.open(t, `, "types": [{"name": "wide", "vcpus": 2}]`)
	request := api.MakeRequest{Name: "all-web", Type: "wide", Select: model.Selector{VMs: []string{"web?"}, Except: []string{"web3"}}}
	made := invoke[api.MakeReply](h.started, api.MethodTemplateMake, request)
	for _, part := range []string{"name: all-web", "vms: [web1, web2]", "vcpus: 2"} {
		if !strings.Contains(made.Document, part) {
			t.Errorf("the document lacks %q:\n%s", part, made.Document)
		}
	}
	p := invoke[api.PlanReply](h.started, api.MethodPlan, api.MoveRequest{Template: "all-web"})
	if len(p.Plans) != 2 || p.Plans[0].Plan == nil || p.Plans[0].Plan.After.VCPUs != 2 {
		t.Errorf("plan %+v", p.Text)
	}
}

// TestTemplateSelectsByType: a VM is selected by the type that a move last gave it, also in the next process.
func TestTemplateSelectsByType(t *testing.T) {
	const typed = `, "types": [{"name": "wide", "vcpus": 1}]`
	h := newHouse(t)
	h.open(t, typed)
	h.store(t, `{"version": 1, "name": "wides", "select": {"types": ["wide"]}, "place": {"hosts": ["rack1"]}}`)
	selected := func() int {
		return invoke[api.TemplatesReply](h.started, api.MethodTemplates, nil).Templates[0].Selects
	}
	if n := selected(); n != 0 {
		t.Errorf("%d VMs have a type that none was given", n)
	}
	for vm, ty := range map[string]string{"web1": "wide", "web2": ""} {
		h.ended(t, h.apply(api.MoveRequest{VM: vm, To: "rack2", Type: ty}).Moves[0].ID)
	}
	h.until("web1 is wide", func(plugin.Event) bool { return selected() == 1 })
	if err := h.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.open(t, typed)
	p := invoke[api.PlanReply](h.started, api.MethodPlan, api.MoveRequest{Template: "wides"})
	if len(p.Plans) != 1 || p.Plans[0].VM != "web1" || p.Plans[0].Plan == nil {
		t.Errorf("the template means %+v", p.Plans)
	}
}

func TestTemplatesThatAreRefused(t *testing.T) {
	h := newHouse(t)
	h.open(t, `, "templates": [`+strings.Replace(evacuate, `"evacuate"`, `"fixed"`, 1)+`]`)
	for want, call := range map[string]struct {
		method  string
		request any
	}{
		"stands in the configuration": {api.MethodTemplateDelete, api.TemplateRequest{Name: "fixed"}},
		"change it there":             {api.MethodTemplateStore, api.StoreRequest{Template: json.RawMessage(strings.Replace(evacuate, `"evacuate"`, `"fixed"`, 1))}},
		"selects every VM":            {api.MethodTemplateStore, api.StoreRequest{Template: json.RawMessage(`{"version": 1, "name": "x", "select": {}}`)}},
		"colour":                      {api.MethodTemplateStore, api.StoreRequest{Template: json.RawMessage(`{"version": 1, "name": "x", "select": {"all": true}, "colour": 1}`)}},
		"no template":                 {api.MethodTemplate, api.TemplateRequest{Name: "x"}},
		"none of 3 VMs":               {api.MethodTemplateMake, api.MakeRequest{Name: "x"}},
	} {
		body, _ := json.Marshal(call.request)
		if call.method == api.MethodTemplateMake {
			body = []byte(`{"name": "x", "select": {"vms": ["db*"]}}`)
		}
		if _, err := h.Invoke(t.Context(), call.method, body); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s %s: %v, want %q", call.method, body, err, want)
		}
	}
	if list := invoke[api.TemplatesReply](h.started, api.MethodTemplates, nil).Templates; len(list) != 1 || !list[0].Configured {
		t.Errorf("templates %+v", list)
	}
}

func TestCredentialsOfHosts(t *testing.T) {
	h := newHouse(t)
	h.open(t, "")
	bundle := invoke[api.EnrollReply](h.started, api.MethodEnroll, api.HostRequest{Name: "rack1"}).Bundle
	for _, part := range []string{"BEGIN CERTIFICATE", "PRIVATE KEY"} {
		if !strings.Contains(bundle, part) {
			t.Errorf("the bundle has no %s", part)
		}
	}
	invoke[none](h.started, api.MethodRevoke, api.HostRequest{Name: "rack1"})
	if _, err := h.Invoke(t.Context(), api.MethodEnroll, []byte(`{"name": "rack9"}`)); err == nil {
		t.Error("a host that is not in the configuration was enrolled")
	}
}

// TestValidateWants: what core is asked for follows from what is configured.
func TestValidateWants(t *testing.T) {
	for section, want := range map[string]string{
		`{}`: "", `{"hosts": [{"name": "a", "qmp": "unix:/a"}]}`: "",
		`{"hosts": [{"name": "a", "vmhost": "h:1"}], "gateway": true}`:                                                          "gateway/volumes.handover gateway/volumes.list state",
		`{"hosts": [{"name": "a", "libvirt": "tls:h", "tls": {"ca": "file:/ca", "certificate": "file:/c", "key": "file:/k"}}]}`: "file:/c file:/ca file:/k state",
	} {
		v := New().Validate(t.Context(), plugin.Section{JSON: []byte(section)})
		if err := v.Err(); err != nil {
			t.Errorf("%s: %v", section, err)
		}
		var got []string
		for _, w := range v.Wants {
			got = append(got, w.GetSelector())
		}
		slices.Sort(got)
		if strings.Join(got, " ") != want {
			t.Errorf("%s wants %q, not %q", section, got, want)
		}
	}
	for section, want := range map[string]string{
		`{"hosts": [{"name": "a", "vmhost": "h:1", "libvirt": "unix:/l"}]}`:             "hosts[0]",
		`{"hosts": [{"name": "A.b", "vmhost": "h:1"}]}`:                                 "hosts[0].name",
		`{"hosts": [{"name": "a", "vmhost": "h"}]}`:                                     "hosts[0].vmhost",
		`{"hosts": [{"name": "a", "libvirt": "tls:h"}]}`:                                "hosts[0].tls.key",
		`{"hosts": [{"name": "a", "libvirt": "unix:/l", "networks": {"lan": "wire"}}]}`: "hosts[0].libvirt",
		`{"hosts": [{"name": "a", "vmhost": "h:1", "vm": "x"}]}`:                        "hosts[0].vm",
		`{"hosts": [{"name": "a", "vmhost": "h:1", "networks": {"lan": "user"}}]}`:      "hosts[0]",
		`{"types": [{"vcpus": 1}]}`:                                                     "types[0].name",
		`{"types": [{"name": "x"}, {"name": "x"}]}`:                                     "types[1].name",
		`{"vms": [{"name": "x"}, {"name": "x"}]}`:                                       "vms[1].name",
		`{"templates": [{"version": 1, "name": "t", "select": {}}]}`:                    "templates[0].select",
	} {
		v := New().Validate(t.Context(), plugin.Section{JSON: []byte(section)})
		if err := v.Err(); err == nil || !strings.Contains(err.Error(), want+":") {
			t.Errorf("%s: %v, want something at %s", section, err, want)
		}
	}
}
