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

// tags leave out gRPC's request tracing, a web page that nobody serves: its templates call methods by name, which keeps
// every exported method of the program in the binary.
const tags = "grpcnotrace"

// Compile builds the appliance binary into path: static, without paths, build ids or VCS stamps
// of the machine, so that the same source gives the same bytes.
func (s Source) Compile(ctx context.Context, path string) error {
	const pkg = "github.com/ratchetos/ratchet/core/version"
	flags := fmt.Sprintf("-s -w -buildid= -X %[1]s.Version=%[2]s -X %[1]s.Commit=%[3]s -X %[1]s.Epoch=%[4]s", pkg, s.Version, s.Commit, s.Epoch)
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-tags", tags, "-ldflags", flags, "-o", path, ".")
	cmd.Dir = s.Root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOAMD64=v1", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("compile appliance: %w\n%s", err, bytes.TrimSpace(out))
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
