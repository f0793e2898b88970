package guestagent

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/google/renameio/v2"

	"github.com/ratchetos/ratchet/image/gobuild"
)

const (
	// MaxSize of the program, in bytes.
	MaxSize = 4 << 20
	// Program is its name, and the package's.
	Program = "ratchet-guest-agent"

	source = "github.com/ratchetos/ratchet/plugins/migration/agent/cmd/ratchet-guest-agent"
)

// Options of Build. Root and Version are needed.
type Options struct {
	Root    string // of the source tree
	Version string // as git describe says it
	Epoch   string // of the commit, in seconds; "" is 0
}

// Package is what was built.
type Package struct {
	Program []byte
	Deb     []byte
	DebName string
}

// Build compiles the agent and packs it.
func Build(ctx context.Context, o Options) (*Package, error) {
	dir, err := os.MkdirTemp("", Program+"-")
	if err != nil {
		return nil, fmt.Errorf("build the guest agent: %w", err)
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, Program)
	if err := gobuild.Build(ctx, o.Root, out, []string{"main.version=" + o.Version}, source); err != nil {
		return nil, fmt.Errorf("build the guest agent: %w", err)
	}
	p := &Package{DebName: Program + "_" + debianVersion(o.Version) + "_amd64.deb"}
	if p.Program, err = os.ReadFile(out); err != nil {
		return nil, fmt.Errorf("build the guest agent: %w", err)
	}
	if len(p.Program) > MaxSize {
		return nil, fmt.Errorf("build the guest agent: it has %d bytes, at most %d: look at what it imports (go list -deps %s)", len(p.Program), MaxSize, source)
	}
	var seconds int64
	if o.Epoch != "" {
		if seconds, err = strconv.ParseInt(o.Epoch, 10, 64); err != nil {
			return nil, fmt.Errorf("build the guest agent: epoch %q: %w", o.Epoch, err)
		}
	}
	if p.Deb, err = pack(p.Program, o.Version, time.Unix(seconds, 0).UTC()); err != nil {
		return nil, fmt.Errorf("pack the guest agent: %w", err)
	}
	return p, nil
}

// Write puts both files into a folder and returns their paths.
func (p *Package) Write(dir string) (program, deb string, err error) {
	program, deb = filepath.Join(dir, Program), filepath.Join(dir, p.DebName)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", "", fmt.Errorf("write the guest agent: %w", err)
	}
	if err := renameio.WriteFile(program, p.Program, 0o755); err != nil {
		return "", "", fmt.Errorf("write the guest agent: %w", err)
	}
	if err := renameio.WriteFile(deb, p.Deb, 0o644); err != nil {
		return "", "", fmt.Errorf("write the guest agent: %w", err)
	}
	return program, deb, nil
}
