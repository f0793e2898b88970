package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// TPM is a software TPM 2.0 whose state outlives the machines it is plugged into. One process at a time can use
// a state folder; swtpm locks it.
type TPM struct {
	// Dir keeps the state: seeds, NV indices, counters. It is created if missing. An empty one is a new TPM.
	Dir string
	// Model is tpm-crb (if empty) or tpm-tis.
	Model string
	// Bus, when set, is between the machine and the TPM. Serve does not use it.
	Bus Bus
}

// stopGrace is how long swtpm gets to write its state and end.
const stopGrace = 3 * time.Second

// command is swtpm on the state folder, with what all uses share.
func (t *TPM) command(args ...string) (*exec.Cmd, error) {
	bin, err := exec.LookPath("swtpm")
	if err != nil {
		return nil, fmt.Errorf("find the software TPM: %w (apt-get install swtpm)", err)
	}
	if err := os.MkdirAll(t.Dir, 0o700); err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(t.Dir)
	if err != nil {
		return nil, err
	}
	all := append([]string{"socket", "--tpm2", "--tpmstate", "dir=" + dir}, args...)
	return exec.Command(bin, all...), nil
}

// wires returns the two ends of the control channel, for QEMU and for swtpm.
func (t *TPM) wires() (machine, chip *os.File, err error) {
	machine, chip, err = filePair()
	if err != nil || t.Bus == nil {
		return machine, chip, err
	}
	defer machine.Close() // the tap works on a duplicate, and is in the machine's place
	if machine, err = tap(machine, t.Bus); err != nil {
		chip.Close()
		return nil, nil, err
	}
	return machine, chip, nil
}

// plug starts swtpm for a machine. QEMU drives it over ctl and powers it on itself; whoever holds the other
// end of ctl is the machine.
func (t *TPM) plug(ctl *os.File, log *os.File) (*process, error) {
	cmd, err := t.command("--ctrl", "type=unixio,clientfd=3")
	if err != nil {
		return nil, err
	}
	cmd.ExtraFiles = []*os.File{ctl}
	cmd.Stdout, cmd.Stderr = log, log
	p, err := startProcess(cmd)
	if err != nil {
		return nil, fmt.Errorf("start the software TPM: %w", err)
	}
	return p, nil
}

// TPMServer is a powered-on TPM without a machine, for tools on the host.
type TPMServer struct {
	// TCTI is the value of TPM2TOOLS_TCTI.
	TCTI string
	// Socket is the UNIX socket that takes TPM commands, as go-tpm's linuxudstpm wants it.
	Socket string

	p   *process
	tmp string
	off func() bool
}

// Serve powers the TPM on between two boots of its machine, so that a test can look at and change its state:
//
//	s, err := tpm.Serve(ctx)
//	defer s.Stop()
//	cmd.Env = append(os.Environ(), "TPM2TOOLS_TCTI="+s.TCTI)
//
// PCRs start at zero, as after a power cycle. The end of ctx stops it too.
func (t *TPM) Serve(ctx context.Context) (*TPMServer, error) {
	// A folder of our own with a short name: socket paths are limited to 108 bytes, test folders are not.
	tmp, err := os.MkdirTemp("", "swtpm")
	if err != nil {
		return nil, err
	}
	s := &TPMServer{Socket: filepath.Join(tmp, "tpm"), tmp: tmp}
	s.TCTI = "swtpm:path=" + s.Socket
	// tpm2-tss expects the control channel beside the data channel, under this name.
	control := s.Socket + ".ctrl"
	if s.p, err = t.serve(s.Socket, control); err != nil {
		_ = os.RemoveAll(tmp)
		return nil, err
	}
	s.off = context.AfterFunc(ctx, s.p.signalKill)
	for _, path := range []string{control, s.Socket} {
		if err := awaitSocket(ctx, s.p, path); err != nil {
			s.Stop()
			return nil, fmt.Errorf("start the software TPM on %s: %w", t.Dir, err)
		}
	}
	if err := awaitAnswer(ctx, s.p, control); err != nil {
		s.Stop()
		return nil, fmt.Errorf("start the software TPM on %s: %w", t.Dir, err)
	}
	return s, nil
}

func (t *TPM) serve(socket, control string) (*process, error) {
	cmd, err := t.command(
		"--server", "type=unixio,path="+socket, "--ctrl", "type=unixio,path="+control,
		"--flags", "not-need-init,startup-clear")
	if err != nil {
		return nil, err
	}
	return startProcess(cmd)
}

// Stop powers the TPM off and waits until the state is written. Calling it again does nothing.
func (s *TPMServer) Stop() {
	s.off()
	s.p.stop(stopGrace)
	_ = os.RemoveAll(s.tmp)
}

// awaitSocket returns when path exists: swtpm binds its sockets some milliseconds after it starts and tells
// nobody. It does not connect, since swtpm would take that for the client.
func awaitSocket(ctx context.Context, p *process, path string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := os.Stat(path); err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-p.done:
			return p.inUse()
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", path, context.Cause(ctx))
		}
	}
}

// capabilities is swtpm's control command CMD_GET_CAPABILITY, which changes nothing (swtpm_ioctls(3)).
var capabilities = []byte{0, 0, 0, 1}

// awaitAnswer returns when swtpm answers on its control socket: it binds its sockets before it finds out whether the state is
// another's, and then ends.
func awaitAnswer(ctx context.Context, p *process, control string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	c, err := (&net.Dialer{}).DialContext(ctx, "unix", control)
	if err == nil {
		defer c.Close()
		defer context.AfterFunc(ctx, func() { c.Close() })()
		if _, err = c.Write(capabilities); err == nil {
			_, err = io.ReadFull(c, make([]byte, 4)) // the result; how much follows depends on the version
		}
	}
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("wait for an answer on %s: %w", control, context.Cause(ctx))
	}
	select {
	case <-p.done:
		return p.inUse()
	case <-ctx.Done():
		return fmt.Errorf("ask on %s: %w", control, err)
	}
}

// inUse is the error of a swtpm that ended instead of serving.
func (p *process) inUse() error {
	return errors.Join(errors.New("it ended at once; is the state in use by another machine?"), p.err)
}
