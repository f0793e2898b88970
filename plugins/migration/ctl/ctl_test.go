package ctl

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/ratchetos/ratchet/plugins/internal/command/commandtest"
)

// TestCommands runs testdata/ctl.txt: a command and the plugin's reply; what is asked and shown.
func TestCommands(t *testing.T) {
	dir := t.TempDir()
	document := "version: 1\nname: evacuate\nselect: {hosts: [rack1]}\n"
	if err := os.WriteFile(filepath.Join(dir, "evacuate.yaml"), []byte(document), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "wrong.yaml"), []byte("version: 1\nname: evacuate\nselect: {host: rack1}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	script, err := filepath.Abs("testdata/ctl.txt")
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	commandtest.Run(t, script, Command)
}

// The file with the key is for its owner alone, also where there was another before.
func TestIdentityFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rack1.pem")
	if err := os.WriteFile(path, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	c := Command(&commandtest.App{Reply: `{"bundle": "-----BEGIN CERTIFICATE-----\n"}`})
	c.SetArgs([]string{"host", "enroll", "rack1", "--file", path})
	if err := c.ExecuteContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "-----BEGIN CERTIFICATE-----\n" || st.Mode().Perm() != 0o600 {
		t.Errorf("%q with mode %o, %v", text, st.Mode().Perm(), err)
	}
}

// Every command says what it is for, and shows how it is used; what names a thing of the box can be completed.
func TestHelpAndCompletion(t *testing.T) {
	reply := `{"hosts": [{"name": "rack1"}], "vms": [{"name": "web1", "host": "rack1"}], "moves": [{"id": "m-1", "vm": "web1", "to": "rack2"}],
		"templates": [{"name": "evacuate"}], "types": [{"name": "large"}]}`
	argument := regexp.MustCompile(` \[?(NAME|VM|MOVE)\]?`)
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			walk(sub)
		}
		if c.HasSubCommands() {
			return
		}
		if c.Short == "" || !strings.Contains(c.Example, "ratchetctl migrate ") {
			t.Errorf("%s has no help or no example", c.CommandPath())
		}
		if argument.MatchString(c.Use) && c.ValidArgsFunction == nil && c.Name() != "create" {
			t.Errorf("%s does not complete its argument", c.CommandPath())
		}
		if c.ValidArgsFunction != nil {
			c.SetContext(t.Context())
			if list, _ := c.ValidArgsFunction(c, nil, ""); len(list) != 1 {
				t.Errorf("%s offers %q", c.CommandPath(), list)
			}
		}
	}
	walk(Command(&commandtest.App{Reply: reply}))
}
