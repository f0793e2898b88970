// Package tpmtest gives tests software TPMs that can lose power: Microsoft's reference TPM in the
// process (go-tpm-tools, cgo) and swtpm (libtpms) as a process of its own. Only tests import it.
package tpmtest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-tpm-tools/simulator"
	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"
)

// Machine is a TPM in a box that can be switched off.
type Machine interface {
	transport.TPM
	// Cycle is a TPM reset; orderly says whether the TPM was told to shut down before.
	Cycle(orderly bool) error
}

// Kinds names the implementations that every suite runs on.
var Kinds = []string{"simulator", "swtpm"}

// New starts a TPM of the given kind with nothing in it. It ends with the test.
func New(t testing.TB, kind string) Machine {
	t.Helper()
	switch kind {
	case "simulator":
		return newSimulator(t)
	case "swtpm":
		return NewSWTPM(t)
	}
	t.Fatalf("no TPM of kind %q", kind)
	return nil
}

// Boot resets m and extends PCR 7 and 11 as firmware and stub do for an image.
func Boot(t testing.TB, m Machine, orderly bool, secureBoot, image string) {
	t.Helper()
	if err := m.Cycle(orderly); err != nil {
		t.Fatalf("reset TPM: %v", err)
	}
	Extend(t, m, 7, secureBoot)
	Extend(t, m, 11, image)
}

// Extend extends one PCR of the SHA-256 bank with the digest of a word.
func Extend(t testing.TB, m transport.TPM, pcr uint32, word string) {
	t.Helper()
	d := sha256.Sum256([]byte(word))
	_, err := tpm2.PCRExtend{
		PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(pcr), Auth: tpm2.PasswordAuth(nil)},
		Digests:   tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: d[:]}}},
	}.Execute(m)
	if err != nil {
		t.Fatalf("extend PCR %d: %v", pcr, err)
	}
}

type sim struct {
	transport.TPM
	s *simulator.Simulator
}

// one is the reference TPM, of which a process has one: its state is in C globals.
var one sync.Mutex

func newSimulator(t testing.TB) Machine {
	if !one.TryLock() { // simulator.Get would wait for ever
		t.Fatal("start simulator: a test of this process has it already; end that first, in a subtest of its own")
	}
	t.Cleanup(one.Unlock)
	s, err := simulator.Get()
	if err != nil {
		t.Fatalf("start simulator: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("stop simulator: %v", err)
		}
	})
	return &sim{transport.FromReadWriter(s), s}
}

// Cycle is always orderly: the reference TPM keeps its NV in memory and has no way to lose it.
func (s *sim) Cycle(bool) error { return s.s.Reset() }

// SWTPM is a swtpm process with its state in a folder.
type SWTPM struct {
	Socket string // for tpm2-tools: TPM2TOOLS_TCTI=swtpm:path=<Socket>
	dir    string
	cmd    *exec.Cmd
	tpm    transport.TPMCloser
}

// NewSWTPM starts swtpm on an empty state.
func NewSWTPM(t testing.TB) *SWTPM {
	t.Helper()
	// Not t.TempDir: it holds the test's name, and a socket's path ends at 108 bytes.
	dir, err := os.MkdirTemp("", "swtpm") //nolint:usetesting // a path of a fixed length
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := &SWTPM{Socket: filepath.Join(dir, "tpm"), dir: dir}
	if err := s.on(); err != nil {
		t.Fatalf("start swtpm (apt install swtpm): %v", err)
	}
	t.Cleanup(s.off)
	return s
}

// Send implements transport.TPM.
func (s *SWTPM) Send(b []byte) ([]byte, error) { return s.tpm.Send(b) }

// Cycle restarts the process; not orderly is a power cut.
func (s *SWTPM) Cycle(orderly bool) error {
	if orderly {
		if _, err := (tpm2.Shutdown{ShutdownType: tpm2.TPMSUClear}).Execute(s); err != nil {
			return err
		}
	}
	s.off()
	return s.on()
}

// Save copies the state of the TPM, as a backup of a virtual machine does.
func (s *SWTPM) Save() ([]byte, error) {
	if _, err := (tpm2.Shutdown{ShutdownType: tpm2.TPMSUClear}).Execute(s); err != nil {
		return nil, err
	}
	return os.ReadFile(filepath.Join(s.dir, stateFile))
}

// Restore puts an older state back and restarts the TPM.
func (s *SWTPM) Restore(state []byte) error {
	s.off()
	if err := os.WriteFile(filepath.Join(s.dir, stateFile), state, 0o600); err != nil {
		return err
	}
	return s.on()
}

// stateFile is where swtpm keeps what survives a reset.
const stateFile = "tpm2-00.permall"

func (s *SWTPM) on() error {
	for _, socket := range []string{s.Socket, s.Socket + ".ctrl"} {
		if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	var log bytes.Buffer
	s.cmd = exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+s.dir,
		"--server", "type=unixio,path="+s.Socket, "--ctrl", "type=unixio,path="+s.Socket+".ctrl", "--flags", "not-need-init,startup-clear")
	s.cmd.Stderr = &log
	if err := s.cmd.Start(); err != nil {
		return err
	}
	// swtpm has no way to say that its socket listens but the socket itself.
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for tick := time.NewTicker(2 * time.Millisecond); ; {
		if t, err := linuxudstpm.Open(s.Socket); err == nil {
			s.tpm = t
			if _, err = (tpm2.PCRRead{}).Execute(t); err == nil {
				tick.Stop()
				return nil
			}
		}
		select {
		case <-ctx.Done():
			tick.Stop()
			s.off()
			return errors.New("swtpm does not answer: " + log.String())
		case <-tick.C:
		}
	}
}

func (s *SWTPM) off() {
	// Only the process started above; its exit status says how it was killed.
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}
