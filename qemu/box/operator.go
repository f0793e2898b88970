package box

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/ratchetos/ratchet/qemu/vm"
)

// Verdict is the line in which init says what it decided.
type Verdict struct {
	Word string // RELEASED or ISOLATED
	Line string // the whole line, without the prefix
}

// Verdict waits for init's decision.
func (b *Box) Verdict(ctx context.Context) (Verdict, error) {
	m, err := b.ExpectLine(ctx, `ratchet: verdict ([A-Z]+)(.*)`)
	if err != nil {
		return Verdict{}, fmt.Errorf("wait for the verdict: %w", err)
	}
	return Verdict{Word: m.Groups[1], Line: m.Groups[1] + m.Groups[2]}, nil
}

// Ready waits until core says that every enabled plugin serves.
func (b *Box) Ready(ctx context.Context) (line string, err error) {
	m, err := b.ExpectLine(ctx, `ratchet: ready: (.*)`)
	if err != nil {
		return "", fmt.Errorf("wait for the plugins: %w", err)
	}
	return m.Groups[1], nil
}

// Login waits for the one-time token that a development image prints and enrols this client with it.
func (b *Box) Login(ctx context.Context) error {
	m, err := b.ExpectLine(ctx, `ratchetctl login (\S+) --token (\S+) --ca-sha256 ([0-9a-f]{64})`)
	if err != nil {
		return fmt.Errorf("wait for the login token: %w", err)
	}
	_, err = b.Ctl(ctx, "login", b.Forward(APIPort), "--token", m.Groups[2], "--ca-sha256", m.Groups[3])
	return err
}

// Ctl runs ratchetctl against the box as its operator would from a workstation, and returns what it prints.
// The error holds what it printed to stderr.
func (b *Box) Ctl(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, b.ratchet, append([]string{"ctl", "--address", b.Forward(APIPort), "--config-dir", filepath.Join(b.Dir, clientDir)}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return out, fmt.Errorf("ratchetctl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return out, nil
}

// Type types a ratchetctl command on the serial console, as somebody who stands before the box does, and waits for the
// line of its output that matches. The console echoes what is typed: the pattern must not match the command.
func (b *Box) Type(ctx context.Context, command, pattern string) (vm.Match, error) {
	if err := b.SendLine(command); err != nil {
		return vm.Match{}, err
	}
	m, err := b.ExpectLine(ctx, pattern)
	if err != nil {
		return m, fmt.Errorf("type %q on the console: %w", command, err)
	}
	return m, nil
}

// NBD is the address of an export on the host, as NBD clients take it.
func (b *Box) NBD(export string) string { return "nbd://" + b.Forward(NBDPort) + "/" + export }
