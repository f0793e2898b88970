package builder

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/ratchetos/ratchet/image/gobuild"
)

// Source is the tree an image is built from.
type Source struct {
	Root    string // of the Go module
	Version string // git describe
	Commit  string // "" when unknown
	Epoch   string // time of the commit, Unix seconds
}

// FindSource looks for the module root from the working directory upwards and asks git for the
// version. A tree without git (a tarball) builds as "devel".
func FindSource(ctx context.Context) (Source, error) {
	out, err := output(ctx, "", "go", "env", "GOMOD")
	if err != nil {
		return Source{}, fmt.Errorf("find source: %w", err)
	}
	if out == "" || out == os.DevNull {
		return Source{}, errors.New("find source: not inside the source tree; change into it")
	}
	s := Source{Root: filepath.Dir(out), Version: "devel"}
	if v, err := output(ctx, s.Root, "git", "describe", "--always", "--dirty", "--tags"); err == nil && v != "" {
		s.Version = v
	}
	if e, err := output(ctx, s.Root, "git", "log", "-1", "--format=%H %ct"); err == nil {
		s.Commit, s.Epoch, _ = strings.Cut(e, " ")
	}
	return s, nil
}

// Compile builds the appliance binary into path.
func (s Source) Compile(ctx context.Context, path string) error {
	const pkg = "github.com/ratchetos/ratchet/core/version"
	values := []string{pkg + ".Version=" + s.Version, pkg + ".Commit=" + s.Commit, pkg + ".Epoch=" + s.Epoch}
	if err := gobuild.Build(ctx, s.Root, path, values, "."); err != nil {
		return fmt.Errorf("compile appliance: %w", err)
	}
	return nil
}

func output(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", name, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return strings.TrimSpace(string(out)), nil
}
