package builder

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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

// cold are packages without loops that anybody waits for: control planes, codecs of short messages, start-up. They are
// compiled without inlining. The binary is resident in the box's memory and read and measured by the firmware, and a
// sixteenth of it, 2 MB, was copies of functions that run a few times. Data paths (gateway, log, NBD, pipelines, compression,
// cryptography, the runtime) are not among them.
var cold = []string{
	module + "boot", module + "core", module + "hw", module + "plugins/dataplane", module + "plugins/migration",
	"connectrpc.com", "encoding/gob", "encoding/xml", "github.com/cilium", "github.com/goccy", "github.com/google", "github.com/hashicorp",
	"github.com/insomniacslk", "github.com/jsimonetti", "github.com/mdlayher", "github.com/minio", "github.com/osrg", "github.com/prometheus",
	"github.com/spf13", "github.com/tinylib", "github.com/u-root", "go.etcd.io", "go.yaml.in", "golang.org/x/net", "google.golang.org",
	"gopkg.in", "net/http", "net/rpc",
}

// warm are exceptions from cold.
var warm = []string{module + "core/pipeline"}

const module = "github.com/ratchetos/ratchet/"

// compilerFlags are the -gcflags of cold and warm packages; of those that match a package the last one holds.
func compilerFlags() (flags []string) {
	for _, path := range cold {
		flags = append(flags, "-gcflags="+path+"/...=-l")
	}
	for _, path := range warm {
		flags = append(flags, "-gcflags="+path+"/...=")
	}
	return flags
}

// Compile builds the appliance binary into path: static, without paths, build ids or VCS stamps
// of the machine, so that the same source gives the same bytes.
func (s Source) Compile(ctx context.Context, path string) error {
	const pkg = "github.com/ratchetos/ratchet/core/version"
	flags := fmt.Sprintf("-s -w -buildid= -X %[1]s.Version=%[2]s -X %[1]s.Commit=%[3]s -X %[1]s.Epoch=%[4]s", pkg, s.Version, s.Commit, s.Epoch)
	args := slices.Concat([]string{"build", "-trimpath", "-buildvcs=false", "-tags", tags, "-ldflags", flags}, compilerFlags(), []string{"-o", path, "."})
	cmd := exec.CommandContext(ctx, "go", args...)
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
