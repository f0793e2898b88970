// Package gobuild compiles the programs that go into an image: static, with no path, build id or VCS stamp of the machine, so
// that the same source gives the same bytes.
//
// The file flags holds what decides how packages are compiled, in the form of GOFLAGS. The Makefile and .ci/test export it, so
// tests and tools run the packages compiled as they are shipped, and all of them share one build cache with the image.
//
// It leaves out gRPC's request tracing, a web page that nobody serves: its templates call methods by name, which keeps every
// exported method of the program in the binary. netgo and osusergo choose what a static program has anyway.
//
// Packages with -l are cold: without loops that anybody waits for (control planes, codecs of short messages, start-up). They
// are compiled without inlining. The binary is resident in the box's memory and read and measured by the firmware, and a
// sixteenth of it, 2 MB, was copies of functions that run a few times. Data paths (gateway, log, NBD, pipelines, compression,
// cryptography, the runtime) are not among them. Of several flags that match a package the last one holds.
package gobuild

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

//go:embed flags
var flags string

// Build compiles the main packages (import paths, or relative to folder dir) for linux/amd64. out is the program's file, or
// for several packages an existing folder. values are set by the linker: "import/path.Name=value".
func Build(ctx context.Context, dir, out string, values []string, packages ...string) error {
	link := "-s -w -buildid="
	for _, v := range values {
		link += " -X " + v
	}
	cmd := exec.CommandContext(ctx, "go", append([]string{"build", "-ldflags=" + link, "-o", out}, packages...)...)
	cmd.Dir = dir
	// A workspace of the caller must not reach in.
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOAMD64=v1", "GOWORK=off",
		"GOFLAGS="+strings.Join(strings.Fields(flags), " "))
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s: %w\n%s", strings.Join(packages, " "), err, bytes.TrimSpace(text))
	}
	return nil
}
