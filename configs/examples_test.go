package configs_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/ratchetos/ratchet/core/config"
	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/plugins/dataplane"
	"github.com/ratchetos/ratchet/plugins/dataplane/agent"
	"github.com/ratchetos/ratchet/plugins/gateway"
	"github.com/ratchetos/ratchet/plugins/migration"
	"github.com/ratchetos/ratchet/plugins/migration/template/document"
	"github.com/ratchetos/ratchet/plugins/migration/vmhost"
)

// TestExamples: every example of a configuration is accepted by the plugins it names.
func TestExamples(t *testing.T) {
	features := []plugin.Feature{gateway.New(), dataplane.New(), migration.New()}
	names, err := filepath.Glob("*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	tried := 0
	for _, name := range names {
		switch name {
		case "hardware.yaml": // the catalogue, not a configuration
			continue
		case "agent.yaml": // of a host, not of an appliance
			if _, found, err := agent.Load(name); err != nil || len(found) > 0 {
				t.Errorf("%s: %v\n%s", name, err, found.Detail())
			}
			continue
		case "vmhost.yaml": // of a hypervisor host
			if _, found, err := vmhost.Load(name); err != nil || len(found) > 0 {
				t.Errorf("%s: %v\n%s", name, err, found.Detail())
			}
			continue
		case "migration-template.yaml": // is given to the migration plugin, not part of its section
			text, err := os.ReadFile(name)
			if err == nil {
				_, err = document.Parse(name, text)
			}
			if err != nil {
				t.Error(err)
			}
			continue
		}
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, found := config.Load(t.Context(), name, data, config.Features(features)); len(found) > 0 {
			t.Errorf("%s\n%s", found.Detail(), found.Summary())
		}
		tried++
	}
	if tried < 4 {
		t.Errorf("%d examples were tried", tried)
	}
}
