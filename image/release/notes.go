package release

import (
	"fmt"
	"strings"
)

// notes is the part of a changelog (keepachangelog.com) about a version. A version that is not named
// yet takes what is unreleased, so that a release candidate needs no edit first.
func notes(changelog, version string) ([]byte, error) {
	if changelog == "" {
		return fmt.Appendf(nil, "# %s\n", version), nil
	}
	parts := make(map[string]string)
	name := ""
	for line := range strings.Lines(changelog) {
		if title, ok := strings.CutPrefix(line, "## "); ok {
			title, _, _ = strings.Cut(strings.TrimSpace(title), " ")
			name = strings.ToLower(strings.Trim(title, "[]"))
			continue
		}
		if name != "" {
			parts[name] += line
		}
	}
	for _, want := range []string{version, strings.TrimPrefix(version, "v"), "unreleased"} {
		if text := strings.TrimSpace(parts[strings.ToLower(want)]); text != "" {
			return fmt.Appendf(nil, "# %s\n\n%s\n", version, text), nil
		}
	}
	return nil, fmt.Errorf("make release: the changelog says nothing about %s: add a part `## %s` or `## Unreleased`", version, version)
}
