package kernel

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// unavailableError means that apt does not know a package in that version.
type unavailableError struct {
	pkg, version string
	output       string
}

func (e *unavailableError) Error() string {
	return fmt.Sprintf("apt-get cannot download %s=%s: %s; run `sudo apt-get update` and try again", e.pkg, e.version, e.output)
}

// download gets one .deb into a folder of its own below the cache; drop removes it.
func (o Options) download(ctx context.Context, pkg, version string) (path string, drop func(), err error) {
	dir, err := os.MkdirTemp(o.Cache, "download-")
	if err != nil {
		return "", nil, fmt.Errorf("make download folder: %w", err)
	}
	drop = func() { os.RemoveAll(dir) }
	o.Log.Info("downloading kernel", "package", pkg, "version", version)
	// Root's apt would drop to user _apt and warn that it cannot write into our folder.
	cmd := exec.CommandContext(ctx, "apt-get", "-o", "APT::Sandbox::User=root", "download", pkg+"="+version)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	if err != nil {
		drop()
		if ctx.Err() != nil {
			return "", nil, fmt.Errorf("download %s: %w", pkg, ctx.Err())
		}
		return "", nil, &unavailableError{pkg, version, lastLine(out)}
	}
	// apt escapes the version in the file name, so look for what it left behind.
	debs, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil || len(debs) != 1 {
		drop()
		return "", nil, fmt.Errorf("download %s: apt-get left %d packages behind", pkg, len(debs))
	}
	return debs[0], drop, nil
}

// aptCandidate resolves a meta package to the real kernel package of today.
func aptCandidate(ctx context.Context, meta string) (Pin, error) {
	show, err := aptShow(ctx, meta)
	if err != nil {
		return Pin{}, err
	}
	pkg, _, _ := strings.Cut(show["Depends"], " ")
	if !strings.HasPrefix(pkg, "linux-image-") {
		return Pin{}, fmt.Errorf("resolve %s: depends on %q, not on a kernel", meta, show["Depends"])
	}
	if show, err = aptShow(ctx, pkg); err != nil {
		return Pin{}, err
	}
	p := Pin{Package: pkg, Version: show["Version"], SHA256: show["SHA256"], Meta: meta}
	if p.Version == "" || len(p.SHA256) != 64 {
		return Pin{}, fmt.Errorf("resolve %s: apt-cache gives no version and sha256 for %s", meta, pkg)
	}
	return p, nil
}

// aptShow returns the first paragraph of `apt-cache show`, the newest version.
func aptShow(ctx context.Context, pkg string) (map[string]string, error) {
	cmd := exec.CommandContext(ctx, "apt-cache", "--no-all-versions", "show", pkg)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("apt-cache show %s: %w", pkg, err)
	}
	return parseParagraph(out), nil
}

// parseParagraph reads "Key: value" lines up to the first empty one; continuation lines,
// which begin with a space, are left out.
func parseParagraph(b []byte) map[string]string {
	m := make(map[string]string)
	s := bufio.NewScanner(bytes.NewReader(b))
	for s.Scan() {
		line := s.Text()
		if line == "" {
			break
		}
		if key, value, ok := strings.Cut(line, ": "); ok && line[0] != ' ' {
			m[key] = value
		}
	}
	return m
}

func lastLine(b []byte) string {
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return lines[len(lines)-1]
}
