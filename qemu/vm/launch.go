package vm

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/ratchetos/ratchet/qemu/ovmf"
)

// launch makes everything in order; if a step fails, what was made before is undone.
func (v *VM) launch(ctx context.Context, c Config, accel Accel) (err error) {
	bin, err := findQEMU()
	if err != nil {
		return err
	}
	dir, err := v.folder(c.Dir)
	if err != nil {
		return err
	}
	l := launch{accel: accel}
	if uefi, ok := c.Firmware.(UEFI); ok {
		if l.code, l.vars, err = flash(dir, uefi); err != nil {
			v.discard()
			return err
		}
	}
	if c, err = c.enterDirectly(dir); err != nil {
		v.discard()
		return err
	}
	messages, consoleLog, err := v.logs(dir)
	if err != nil {
		v.discard()
		return err
	}
	v.started = time.Now()
	v.console = newConsole(v.started, consoleLog, c.Stdout)

	cmd := exec.Command(bin, c.args(l)...)
	cmd.Stdout, cmd.Stderr = v.console, messages
	conn, err := v.run(cmd, c, messages)
	if err != nil {
		v.discard()
		return err
	}
	ctx, stopTimer := context.WithTimeoutCause(ctx, c.Limit, ErrLimit)
	ctx, v.cancel = context.WithCancelCause(ctx)
	go v.supervise(ctx, stopTimer)

	if v.qmp, err = v.greet(ctx, conn); err == nil && forwarding(c.NICs) {
		v.forwards, err = forwards(ctx, v.qmp)
	}
	if err != nil {
		said := v.messages() // before Close removes them
		_ = v.Close()
		return fmt.Errorf("%w%s", err, said)
	}
	return nil
}

// folder makes the machine's folder.
func (v *VM) folder(dir string) (string, error) {
	if dir != "" {
		return dir, os.MkdirAll(dir, 0o755)
	}
	dir, err := os.MkdirTemp("", "ratchet-vm")
	v.temp = dir
	return dir, err
}

// logs opens the files that QEMU's messages and the console go to. They are appended to: in a folder that is
// used for several boots, the earlier ones are part of the story.
func (v *VM) logs(dir string) (messages, console *os.File, err error) {
	open := func(name string) (*os.File, error) {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
		if err == nil {
			v.files = append(v.files, f)
		}
		return f, err
	}
	if messages, err = open("qemu.log"); err != nil {
		return nil, nil, err
	}
	v.log = messages.Name()
	console, err = open("console.log")
	return messages, console, err
}

// run starts swtpm and QEMU with the sockets between them and us.
func (v *VM) run(cmd *exec.Cmd, c Config, messages *os.File) (conn net.Conn, err error) {
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	cmd.ExtraFiles = []*os.File{qmpFD - 3: theirs, tpmFD - 3: nil}
	for _, n := range c.NICs {
		if tap, ok := n.Net.(Tap); ok {
			cmd.ExtraFiles = append(cmd.ExtraFiles, tap.File) // numbers from tapFD on
		}
	}
	stdin, input, err := os.Pipe()
	if err != nil {
		ours.Close()
		return nil, err
	}
	defer stdin.Close()
	cmd.Stdin, v.input = stdin, input
	v.files = append(v.files, input)
	if tpm := c.TPM; tpm != nil {
		machine, chip, err := tpm.wires()
		if err != nil {
			ours.Close()
			return nil, err
		}
		defer machine.Close()
		defer chip.Close()
		cmd.ExtraFiles[tpmFD-3] = machine
		if v.tpm, err = tpm.plug(chip, messages); err != nil {
			ours.Close()
			return nil, err
		}
	}
	if v.qemu, err = startProcess(cmd); err != nil {
		ours.Close()
		if v.tpm != nil {
			v.tpm.kill()
		}
		return nil, fmt.Errorf("start QEMU: %w", err)
	}
	return ours, nil
}

// greet connects to QMP. A QEMU that refuses its arguments ends, which ends the connection.
func (v *VM) greet(ctx context.Context, conn net.Conn) (*QMP, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 30*time.Second, fmt.Errorf("QEMU does not answer"))
	defer cancel()
	return dialQMP(ctx, conn)
}

// supervise ends the machine with ctx, and cleans up behind QEMU whichever way it ended.
func (v *VM) supervise(ctx context.Context, stopTimer func()) {
	defer stopTimer()
	select {
	case <-v.qemu.done:
	case <-ctx.Done():
		v.cause = context.Cause(ctx)
		v.qemu.kill()
	}
	v.end = time.Now()
	if v.tpm != nil {
		v.tpm.stop(stopGrace)
	}
	_ = v.console.Close()
	for _, f := range v.files {
		_ = f.Close()
	}
	close(v.done)
}

// discard undoes a launch that did not get as far as a running QEMU.
func (v *VM) discard() {
	for _, f := range v.files {
		_ = f.Close()
	}
	if v.temp != "" {
		_ = os.RemoveAll(v.temp)
	}
}

// messages returns the end of what QEMU and swtpm had to say, for an error.
func (v *VM) messages() string {
	const keep = 2048
	b, err := os.ReadFile(v.log)
	if text := strings.TrimSpace(string(b[max(0, len(b)-keep):])); err == nil && text != "" {
		return "\n" + text
	}
	return ""
}

// flash returns the firmware's code and the machine's own variables, made from the template on the first boot.
func flash(dir string, u UEFI) (code, vars string, err error) {
	files, err := ovmf.Find(u.SecureBoot)
	if err != nil {
		return "", "", err
	}
	vars = filepath.Join(dir, "vars.fd")
	b, err := os.ReadFile(vars)
	if err == nil {
		return files.Code, vars, checkKept(vars, b, u)
	}
	if b, err = os.ReadFile(files.Vars); err != nil {
		return "", "", err
	}
	if u.SecureBoot && !u.SetupMode {
		if b, err = ovmf.Enroll(b, u.Cert); err != nil {
			return "", "", err
		}
	}
	return files.Code, vars, os.WriteFile(vars, b, 0o644)
}

// checkKept refuses to call a boot secure on variables of an earlier one that was not, or had another signer.
func checkKept(vars string, image []byte, u UEFI) error {
	if !u.SecureBoot || u.SetupMode {
		return nil
	}
	ok, err := ovmf.Enrolled(image, u.Cert)
	if err == nil && !ok {
		err = fmt.Errorf("the machine was made without Secure Boot or with another certificate")
	}
	if err != nil {
		return fmt.Errorf("use the UEFI variables in %s: %w (remove the file to enrol the certificate)", vars, err)
	}
	return nil
}

func findQEMU() (string, error) {
	bin, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		return "", fmt.Errorf("find QEMU: %w (apt-get install qemu-system-x86)", err)
	}
	return bin, nil
}

func forwarding(nics []NIC) bool {
	for _, n := range nics {
		if u, ok := n.Net.(User); ok && len(u.Forwards) > 0 {
			return true
		}
	}
	return false
}
