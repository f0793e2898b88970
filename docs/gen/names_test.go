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
				return have == page || have == "docs/"+page || path.Base(have) == page
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

// named finds the name of a metric in the code: it stands before the text that explains it.
var named = regexp.MustCompile(`\bName: +"([a-z_]+)", Help: "|"([a-z]+_[a-z_]+)", "`)

// TestMetricsPage: the reference has the metrics that the code has, and other pages give them the names that a scrape shows.
func TestMetricsPage(t *testing.T) {
	own := map[string]bool{} // by the names that plugins give them
	all := map[string]bool{} // by those of a scrape
	for _, name := range files(t, ".go") {
		text := read(t, name)
		core := name == "core/api/metrics.go"
		if !core && (!strings.HasPrefix(name, "plugins/") || strings.HasSuffix(name, "_test.go") || !strings.Contains(text, "pluginpb.Gauge")) {
			continue
		}
		for _, m := range named.FindAllStringSubmatch(text, -1) {
			if core {
				all[m[2]] = true
			} else {
				own[m[1]+m[2]], all["ratchet_plugin_"+m[1]+m[2]] = true, true
			}
		}
	}
	const page = "docs/reference/metrics.md"
	for _, m := range regexp.MustCompile("(?m)^\\| `(\\w+)` \\|").FindAllStringSubmatch(read(t, page), -1) {
		if !all[m[1]] {
			t.Errorf("%s has %s, which there is not, or twice", page, m[1])
		}
		delete(all, m[1])
	}
	for name := range all {
		t.Errorf("%s does not have %s", page, name)
	}
	for _, name := range files(t, ".md") {
		for _, m := range regexp.MustCompile("`(\\w+_\\w+)[`{]").FindAllStringSubmatch(read(t, name), -1) {
			if own[m[1]] {
				t.Errorf("%s names the metric %s, which a scrape shows as ratchet_plugin_%[2]s", name, m[1])
			}
		}
	}
}

// TestFlagsNameTheirValue: pflag takes what stands in backticks in a flag's help for the name of its value.
func TestFlagsNameTheirValue(t *testing.T) {
	quoted := regexp.MustCompile("VarP?\\(.*\"[^\"]*`[^\"]*\"")
	for _, name := range files(t, ".go") {
		if line := quoted.FindString(read(t, name)); line != "" {
			t.Errorf("%s: %s", name, line)
		}
	}
}

// TestRoomsOfTheTestBench: testing.md has all folders of qemu.
func TestRoomsOfTheTestBench(t *testing.T) {
	rooms, err := os.ReadDir(filepath.Join(repository, "qemu"))
	if err != nil {
		t.Fatal(err)
	}
	text := read(t, "docs/explanation/testing.md")
	for _, r := range rooms {
		if r.IsDir() && r.Name() != "internal" && !strings.Contains(text, "`qemu/"+r.Name()+"`") {
			t.Errorf("docs/explanation/testing.md does not have qemu/%s", r.Name())
		}
	}
}

// TestMetricNames: a counter's name ends in _total, and no other does, as Prometheus and its linter have it.
func TestMetricNames(t *testing.T) {
	row := regexp.MustCompile("(?m)^\\| `(ratchet_[a-z_]+)` \\| (gauge|counter|histogram) \\|")
	rows := row.FindAllStringSubmatch(read(t, "docs/reference/metrics.md"), -1)
	if len(rows) < 50 {
		t.Fatalf("found %d metrics", len(rows))
	}
	for _, r := range rows {
		if (r[2] == "counter") != strings.HasSuffix(r[1], "_total") {
			t.Errorf("%s is a %s", r[1], r[2])
		}
	}
}
