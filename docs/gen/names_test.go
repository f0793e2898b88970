package main

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const repository = "../.."

// elsewhere are the pages that comments name and that are not in the repository.
var elsewhere = []string{
	"NOTES.md",               // a release's own
	"doc/proto.md",           // NetworkBlockDevice/nbd
	"doc/health-checking.md", // grpc/grpc
}

// files returns the paths, from the top of the repository, that end in one of the given ways.
func files(t *testing.T, ends ...string) (list []string) {
	t.Helper()
	err := fs.WalkDir(os.DirFS(repository), ".", func(name string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() && (name == ".git" || name == "build") {
			return fs.SkipDir
		}
		if err == nil && slices.Contains(ends, path.Ext(name)) {
			list = append(list, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(repository, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// comments returns the comments of a Go file, and all of any other file.
func comments(t *testing.T, name string) string {
	t.Helper()
	if path.Ext(name) != ".go" {
		return read(t, name)
	}
	f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(repository, name), nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, c := range f.Comments {
		all.WriteString(c.Text())
	}
	return all.String()
}

// TestNamedPagesExist: a page that a comment names is in the repository, by its path or, without one, by its name.
func TestNamedPagesExist(t *testing.T) {
	pages := files(t, ".md")
	for _, name := range files(t, ".go") {
		for _, page := range regexp.MustCompile(`[\w./-]*\w\.md\b`).FindAllString(comments(t, name), -1) {
			if !slices.Contains(elsewhere, page) && !slices.ContainsFunc(pages, func(have string) bool {
				return have == page || have == "docs/"+page || strings.EqualFold(path.Base(have), page)
			}) {
				t.Errorf("%s names %s, which there is not", name, page)
			}
		}
	}
}

// TestLabelsAreDefined: the labels of invariants and rules that comments and pages cite are in the reference.
func TestLabelsAreDefined(t *testing.T) {
	reference := read(t, "docs/reference/invariants.md") + read(t, "docs/reference/boot-protocol.md")
	var defined []string
	for _, m := range regexp.MustCompile(`(?m)^\*\*([A-Z]\d+)\*\* `).FindAllStringSubmatch(reference, -1) {
		defined = append(defined, m[1])
	}
	for _, name := range files(t, ".go", ".c", ".h", ".md") {
		for _, label := range regexp.MustCompile(`\b[SDXMB][0-9]{1,2}\b`).FindAllString(comments(t, name), -1) {
			if !slices.Contains(defined, label) {
				t.Errorf("%s cites %s, which is defined nowhere", name, label)
			}
		}
	}
}

// TestNamedTestsExist: tests and mutants that pages name are in the code.
func TestNamedTestsExist(t *testing.T) {
	known := map[string]bool{}
	for _, name := range files(t, ".go", ".c", ".h") {
		for _, m := range regexp.MustCompile(`\bfunc (Test\w+)|\b(mutant[A-Z]\w+|MUTANT_\w+)`).FindAllStringSubmatch(read(t, name), -1) {
			known[m[1]+m[2]] = true
		}
	}
	for _, name := range files(t, ".md") {
		for _, cited := range regexp.MustCompile(`\b(Test[A-Z]\w+|mutant[A-Z]\w+|MUTANT_\w+)`).FindAllString(read(t, name), -1) {
			if !known[cited] {
				t.Errorf("%s names %s, which there is not", name, cited)
			}
		}
	}
}
