// Package gen writes what is generated from the commands and the configuration: the JSON
// Schema, the reference pages and the man pages. It is apart from package ctl because its
// libraries (Markdown, roff) have no business in the appliance's binary.
//
// The caller gives the plugins' features and commands; core knows none. The files are
// committed, "make generate" calls Write, and a test calls Stale.
package gen

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/ratchetos/ratchet/core/config/strict"
	"github.com/ratchetos/ratchet/core/ctl"
	"github.com/ratchetos/ratchet/core/plugin"
)

const (
	schemaFile = "configs/schema/appliance.schema.json"
	cliDir     = "docs/reference/cli"
	manDir     = "docs/reference/man"
	configPage = "docs/reference/configuration.md"
)

// Files returns every generated file by its path in the repository.
func Files(features []plugin.Feature, extra ...func(*ctl.App) *cobra.Command) (map[string][]byte, error) {
	app := &ctl.App{Features: features}
	files := map[string][]byte{}
	schema, err := ctl.Schema(app)
	if err != nil {
		return nil, err
	}
	files[schemaFile] = schema
	if files[configPage], err = Keys(configHead, schema); err != nil {
		return nil, err
	}
	root := app.Command(extra...)
	root.DisableAutoGenTag = true // a date in every page would make every page stale
	root.InitDefaultCompletionCmd()
	root.InitDefaultHelpCmd()
	return files, pages(files, root)
}

// released stands in the man pages instead of today.
var released = time.Date(2026, time.November, 1, 0, 0, 0, 0, time.UTC)

func pages(files map[string][]byte, c *cobra.Command) error {
	if c.Name() == "help" || c.Hidden {
		return nil
	}
	var md, man bytes.Buffer
	if err := doc.GenMarkdown(c, &md); err != nil {
		return fmt.Errorf("write page of %s: %w", c.CommandPath(), err)
	}
	header := &doc.GenManHeader{Section: "1", Manual: "Ratchet", Source: "Ratchet", Date: &released}
	if err := doc.GenMan(c, header, &man); err != nil {
		return fmt.Errorf("write man page of %s: %w", c.CommandPath(), err)
	}
	words := strings.Fields(c.CommandPath())
	files[cliDir+"/"+strings.Join(words, "_")+".md"] = md.Bytes()
	files[manDir+"/"+strings.Join(words, "-")+".1"] = man.Bytes()
	for _, sub := range c.Commands() {
		sub.DisableAutoGenTag = true
		if err := pages(files, sub); err != nil {
			return err
		}
	}
	return nil
}

// Write brings the generated files below root up to date and removes what is no longer
// generated.
func Write(root string, features []plugin.Feature, extra ...func(*ctl.App) *cobra.Command) error {
	files, err := Files(features, extra...)
	if err != nil {
		return err
	}
	for path, data := range files {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("make directory of generated file: %w", err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			return fmt.Errorf("write generated file: %w", err)
		}
	}
	old, err := leftOver(root, files)
	if err != nil {
		return err
	}
	for _, path := range old {
		if err := os.Remove(filepath.Join(root, path)); err != nil {
			return fmt.Errorf("remove page of a command that is gone: %w", err)
		}
	}
	return nil
}

// Stale names the generated files below root that Write would change.
func Stale(root string, features []plugin.Feature, extra ...func(*ctl.App) *cobra.Command) ([]string, error) {
	files, err := Files(features, extra...)
	if err != nil {
		return nil, err
	}
	stale, err := leftOver(root, files)
	if err != nil {
		return nil, err
	}
	for _, path := range slices.Sorted(maps.Keys(files)) {
		have, err := os.ReadFile(filepath.Join(root, path))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("compare generated file: %w", err)
		}
		if !bytes.Equal(have, files[path]) {
			stale = append(stale, path)
		}
	}
	return stale, nil
}

// leftOver finds pages in the generated directories that nothing generates any more.
func leftOver(root string, files map[string][]byte) ([]string, error) {
	var old []string
	for _, dir := range []string{cliDir, manDir} {
		entries, err := os.ReadDir(filepath.Join(root, dir))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("list generated files: %w", err)
		}
		for _, e := range entries {
			if path := dir + "/" + e.Name(); files[path] == nil {
				old = append(old, path)
			}
		}
	}
	return old, nil
}

const configHead = "# Configuration keys\n\nGenerated from the schema (`ratchetctl config schema`) by `make generate`. " +
	"How the document is read: [explanation](../explanation/configuration.md).\n"

// Keys writes a schema as a page for people: head, and a table with one row a key.
func Keys(head string, schema []byte) ([]byte, error) {
	var root node
	if err := json.Unmarshal(schema, &root); err != nil {
		return nil, fmt.Errorf("read schema: %w", err)
	}
	var b bytes.Buffer
	b.WriteString(head + "\n| key | type | default | meaning |\n|---|---|---|---|\n")
	root.rows(&b, "")
	return b.Bytes(), nil
}

// node is as much of a JSON Schema as package strict writes.
type node struct {
	Type        any              `json:"type"`
	Description string           `json:"description"`
	Default     any              `json:"default"`
	Enum        []any            `json:"enum"`
	Required    []string         `json:"required"`
	Properties  map[string]*node `json:"properties"`
	Items       *node            `json:"items"`
	WriteOnly   bool             `json:"writeOnly"`
	Pattern     string           `json:"pattern"`
}

func (n *node) rows(b *bytes.Buffer, path string) {
	for _, key := range slices.Sorted(maps.Keys(n.Properties)) {
		child, at := n.Properties[key], strings.TrimPrefix(path+"."+key, ".")
		meaning := child.Description
		if child.WriteOnly {
			meaning = strings.TrimSpace(meaning + " (secret)")
		}
		value := "-"
		if slices.Contains(n.Required, key) {
			value = "required"
		} else if child.Default != nil {
			text, _ := json.Marshal(child.Default) // came out of JSON
			value = "`" + string(text) + "`"
		}
		fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", at, child.kind(), value, strings.ReplaceAll(meaning, "|", "\\|"))
		child.rows(b, at)
		if child.Items != nil {
			child.Items.rows(b, at+"[]")
		}
	}
}

func (n *node) kind() string {
	if len(n.Enum) > 0 {
		words := make([]string, len(n.Enum))
		for i, e := range n.Enum {
			words[i] = fmt.Sprintf("`%v`", e)
		}
		return strings.Join(words, " or ")
	}
	switch t := n.Type.(type) {
	case []any: // the only union of package strict
		return "size"
	case string:
		switch {
		case t == "object":
			return "group"
		case t == "array" && n.Items != nil:
			return "list of " + n.Items.kind() + "s"
		case n.Pattern == strict.DurationPattern:
			return "duration"
		case t == "string":
			return "text"
		}
		return t
	}
	return "anything"
}
