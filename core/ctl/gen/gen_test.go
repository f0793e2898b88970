package gen

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/ratchetos/ratchet/core/ctl"
	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
)

type feature struct{ plugin.Feature }

func (feature) Describe() plugin.Descriptor {
	return &pluginpb.Descriptor{Name: "gateway", ConfigSchema: plugin.Schema(struct {
		Key string `json:"key" config:"secret" jsonschema:"description=of the store"`
	}{})}
}

func (feature) Validate(context.Context, plugin.Section) plugin.Validation {
	return plugin.Validation{}
}

func extra(*ctl.App) *cobra.Command {
	return &cobra.Command{Use: "volume", Short: "Volumes", Example: "  ratchetctl volume", Run: func(*cobra.Command, []string) {}}
}

func TestWriteAndStale(t *testing.T) {
	root, features := t.TempDir(), []plugin.Feature{feature{}}
	stale, err := Stale(root, features, extra)
	if err != nil || len(stale) < 20 {
		t.Fatalf("stale in an empty directory: %d files, %v", len(stale), err)
	}
	if err := Write(root, features, extra); err != nil {
		t.Fatal(err)
	}
	if stale, err = Stale(root, features, extra); err != nil || len(stale) > 0 {
		t.Fatalf("stale after writing: %v, %v", stale, err)
	}
	for path, want := range map[string]string{
		"docs/reference/cli/ratchetctl_config_apply.md": "--confirm",
		"docs/reference/cli/ratchetctl_volume.md":       "Volumes",
		"docs/reference/man/ratchetctl-hw-claim.1":      ".TH",
		"docs/reference/configuration.md":               "| `plugins.gateway.key` | text | - | of the store (secret) |",
		"configs/schema/appliance.schema.json":          `"writeOnly": true`,
	} {
		text, err := os.ReadFile(filepath.Join(root, path))
		if err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s lacks %q: %v", path, want, err)
		}
		if home, _ := os.UserHomeDir(); strings.Contains(string(text), home+"/.config") {
			t.Errorf("%s depends on who made it", path)
		}
	}

	// A command that is gone, and a page that was edited.
	if err := os.WriteFile(filepath.Join(root, configPage), []byte("edited"), 0o644); err != nil {
		t.Fatal(err)
	}
	stale, err = Stale(root, features)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"docs/reference/cli/ratchetctl_volume.md", configPage} {
		if !strings.Contains(strings.Join(stale, " "), want) {
			t.Errorf("%s is not stale: %v", want, stale)
		}
	}
	if err := Write(root, features); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, "docs/reference/cli/ratchetctl_volume.md")); err == nil {
		t.Error("the page of a command that is gone stayed")
	}
}
