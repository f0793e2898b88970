package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// bounded is the deadline of one step; a busy machine under TCG takes ten seconds for a boot.
func bounded(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func run(t *testing.T, c Config) *VM {
	t.Helper()
	c.NoReboot = true
	m, err := Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		if alive(m.PID()) {
			t.Errorf("QEMU, process %d, is still there after Close", m.PID())
		}
	})
	return m
}

// alive does not count a process that has ended and that nobody has waited for.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

func expect(t *testing.T, m *VM, pattern string) Match {
	t.Helper()
	found, err := m.Expect(bounded(t, 90*time.Second), pattern)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func say(t *testing.T, m *VM, line string) {
	t.Helper()
	if err := m.SendLine(line); err != nil {
		t.Fatal(err)
	}
}

// TestConversation is the harness's whole way of working with a guest: console, TPM, network, disks, power button.
func TestConversation(t *testing.T) {
	dir := t.TempDir()
	blk, nvme := dir+"/disk, with a comma.img", dir+"/nvme.img"
	for _, path := range []string{blk, nvme} {
		if err := os.WriteFile(path, make([]byte, 1<<20), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var raw bytes.Buffer
	tpm := &TPM{Dir: dir + "/tpm"}
	m := run(t, Config{
		Name: "conversation", Dir: dir, Memory: "384M", Firmware: direct(t), TPM: tpm, Stdout: &raw,
		NICs:  []NIC{{Net: User{Forwards: []Forward{{Guest: 7}}}}, {}},
		Disks: []Disk{{Path: blk, Serial: "BLK0", Snapshot: true}, {Path: nvme, Model: "nvme", Serial: "NVME0", ReadOnly: true}},
	})
	ready := expect(t, m, `guest: ready`)
	if ready.At <= 0 || ready.At > m.Elapsed() {
		t.Errorf("ready at %s, elapsed %s", ready.At, m.Elapsed())
	}
	say(t, m, "hello")
	if got := expect(t, m, `guest: you said "(\w+)"`); got.Groups[1] != "hello" {
		t.Errorf("guest heard %q", got.Groups[1])
	}
	say(t, m, "tpm")
	expect(t, m, `guest: tpm \[/dev/tpm0 /dev/tpmrm0\]`)
	say(t, m, "disks")
	expect(t, m, `guest: disk nvme0n1 NVME0`)
	expect(t, m, `guest: disk vda BLK0`)
	say(t, m, "prompt")
	expect(t, m, `login: $`) // a line without an end

	say(t, m, "net")
	expect(t, m, `guest: net <nil>`)
	conn, err := net.DialTimeout("tcp", m.Forward(7), 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprint(conn, "ping")
	echo := make([]byte, 4)
	if _, err := conn.Read(echo); err != nil || string(echo) != "ping" {
		t.Fatalf("through the forward: %q %v", echo, err)
	}
	if got := m.Forward(8); got != "" {
		t.Errorf("a port nobody forwards is at %q", got)
	}

	say(t, m, "power")
	expect(t, m, `waiting for the power button`)
	exit, err := m.PowerDown(bounded(t, 60*time.Second))
	if err != nil || exit.Reason != "guest-shutdown" {
		t.Fatalf("exit %+v, %v", exit, err)
	}
	if cpu, err := m.CPUTime(); err != nil || cpu <= 0 {
		t.Errorf("CPU time %s, %v", cpu, err)
	}
	log, err := os.ReadFile(dir + "/console.log")
	if err != nil || !bytes.Contains(log, []byte(ready.String())) {
		t.Errorf("console.log does not have the line %q (%v)", ready, err)
	}
	if !bytes.Contains(raw.Bytes(), []byte("guest: ready\r\n")) {
		t.Error("Stdout got no raw copy")
	}
	useTPM(t, tpm)
}

// useTPM: between boots, tools on the host see the same TPM.
func useTPM(t *testing.T, tpm *TPM) {
	t.Helper()
	tools := func(args ...string) string {
		t.Helper()
		s, err := tpm.Serve(bounded(t, 30*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Stop()
		cmd := exec.CommandContext(bounded(t, 30*time.Second), args[0], args[1:]...)
		cmd.Env = append(os.Environ(), "TPM2TOOLS_TCTI="+s.TCTI)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", args, err, out)
		}
		return string(out)
	}
	tools("tpm2_nvdefine", "0x1500001", "-C", "o", "-s", "8", "-a", "ownerread|ownerwrite|nt=counter")
	tools("tpm2_nvincrement", "0x1500001", "-C", "o")
	// Another process, another power cycle: what is in NV stays.
	if out := tools("tpm2_nvread", "0x1500001", "-C", "o"); !strings.Contains(out, "\x01") {
		t.Errorf("counter after a power cycle: %q", out)
	}
}

func TestTwoAtOnceAndReset(t *testing.T) {
	c := Config{Memory: "256M", CPUs: 1, Firmware: direct(t), NICs: []NIC{{Net: User{Forwards: []Forward{{Guest: 7}}}}}}
	a, b := run(t, c), run(t, c)
	if a.Forward(7) == b.Forward(7) {
		t.Errorf("both are at %s", a.Forward(7))
	}
	expect(t, a, "guest: ready")
	expect(t, b, "guest: ready")
	say(t, a, "off")
	if exit, err := a.Wait(bounded(t, 30*time.Second)); err != nil || exit.Reason != "guest-shutdown" {
		t.Errorf("a: %+v, %v", exit, err)
	}
	say(t, b, "still there")
	expect(t, b, `you said "still there"`)
	say(t, b, "reset")
	if exit, err := b.Wait(bounded(t, 30*time.Second)); err != nil || exit.Reason != "guest-reset" {
		t.Errorf("b: %+v, %v", exit, err)
	}
	// A machine that is gone must fail an expectation at once and show its last words.
	if _, err := b.Expect(bounded(t, 30*time.Second), "never"); !errors.Is(err, errConsoleClosed) || !strings.Contains(err.Error(), "still there") {
		t.Errorf("expect after the end: %v", err)
	}
}

func TestContextEndsMachine(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	m, err := Start(ctx, Config{Memory: "256M", Firmware: direct(t), TPM: &TPM{Dir: t.TempDir()}})
	if err != nil {
		t.Fatal(err)
	}
	temp := m.temp
	cancel()
	if _, err := m.Wait(bounded(t, 10*time.Second)); !errors.Is(err, context.Canceled) {
		t.Errorf("wait: %v, want the context's end", err)
	}
	if alive(m.PID()) || alive(m.tpm.pid) {
		t.Error("a process is still there")
	}
	m.Close()
	if _, err := os.Stat(temp); !os.IsNotExist(err) {
		t.Errorf("temporary folder: %v, want it gone", err)
	}
}

// TestReset: a machine that starts over, by its own will or the button's, still has its TPM, and keeps it for itself.
func TestReset(t *testing.T) {
	var commands atomic.Int64
	tpm := &TPM{Dir: t.TempDir(), Model: "tpm-tis", Bus: func(command []byte, send func([]byte) ([]byte, error)) ([]byte, error) {
		commands.Add(1)
		return send(command)
	}}
	m, err := Start(t.Context(), Config{Memory: "256M", Firmware: direct(t), TPM: tpm})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	expect(t, m, "guest: ready")
	if s, err := tpm.Serve(bounded(t, 30*time.Second)); err == nil {
		s.Stop()
		t.Error("two users of one TPM")
	} else if !strings.Contains(err.Error(), "in use") {
		t.Errorf("a second use of the TPM: %v", err)
	}
	say(t, m, "reset")
	expect(t, m, "guest: ready")
	if err := m.Reset(bounded(t, 10*time.Second)); err != nil {
		t.Fatal(err)
	}
	expect(t, m, "guest: ready")
	say(t, m, "tpm")
	expect(t, m, `guest: tpm \[/dev/tpm0 /dev/tpmrm0\]`)
	if _, err := m.QMP().Event(bounded(t, 10*time.Second), "RESET"); err != nil {
		t.Error(err)
	}
	if commands.Load() == 0 {
		t.Error("the kernel's driver found a TPM, and no command went over the bus")
	}
}

// TestTPMBus: what the bus answers is what the machine believes.
func TestTPMBus(t *testing.T) {
	failure := []byte{0x80, 0x01, 0, 0, 0, 10, 0, 0, 0x01, 0x01} // TPM_RC_FAILURE
	m := run(t, Config{Memory: "256M", Firmware: direct(t), TPM: &TPM{
		Dir: t.TempDir(), Bus: func([]byte, func([]byte) ([]byte, error)) ([]byte, error) { return failure, nil },
	}})
	expect(t, m, "guest: ready")
	say(t, m, "tpm")
	// The kernel keeps the device, for an update of the TPM's firmware, and gives it no resource manager.
	expect(t, m, `guest: tpm \[(/dev/tpm0)?\]`)
}

// TestEveryDevice: QEMU takes every model we name, all in one machine.
func TestEveryDevice(t *testing.T) {
	// Stopped before its first instruction: the guest is not the point.
	c := Config{Memory: "128M", Firmware: direct(t), ExtraArgs: []string{"-S"}}
	for model := range diskDevices {
		path := filepath.Join(t.TempDir(), model)
		if err := os.WriteFile(path, make([]byte, 1<<20), 0o644); err != nil {
			t.Fatal(err)
		}
		c.Disks = append(c.Disks, Disk{Path: path, Model: model})
	}
	nets := []Net{None{}, Hub{1}, Hub{1}, User{Restrict: true}, User{Forwards: []Forward{{Guest: 80}}}}
	for model := range nicDevices {
		c.NICs = append(c.NICs, NIC{Model: model, Net: nets[len(c.NICs)%len(nets)]})
	}
	m := run(t, c)
	var blocks []struct{ Device string }
	if err := m.QMP().Do(bounded(t, 10*time.Second), "query-block", nil, &blocks); err != nil || len(blocks) != len(diskDevices) {
		t.Errorf("%d disks, %v, want %d", len(blocks), err, len(diskDevices))
	}
	if m.Forward(80) == "" {
		t.Error("no forward")
	}
}

// childEnv makes this test binary the harness that TestDeadHarness kills.
const childEnv = "RATCHET_VM_TEST_CHILD"

// TestDeadHarness: when the process that started a machine is killed, QEMU and swtpm go with it.
func TestDeadHarness(t *testing.T) {
	child := exec.CommandContext(bounded(t, 60*time.Second), os.Args[0])
	child.Env = append(os.Environ(), childEnv+"="+direct(t).Kernel)
	child.Dir = t.TempDir()
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	var qemu, swtpm int
	if _, err := fmt.Fscan(out, &qemu, &swtpm); err != nil {
		t.Fatal(err)
	}
	if !alive(qemu) || !alive(swtpm) {
		t.Fatal("not running to begin with")
	}
	_ = child.Process.Kill()
	_ = child.Wait()
	// Their parent is gone, so nobody can wait for them: look.
	for deadline := time.Now().Add(10 * time.Second); alive(qemu) || alive(swtpm); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("QEMU alive: %v, swtpm alive: %v", alive(qemu), alive(swtpm))
		}
	}
}

// deadHarness is the child's part: two processes, their ids, and no end.
func deadHarness(kernel string) {
	m, err := Start(context.Background(), Config{Memory: "128M", Firmware: Direct{Kernel: kernel}, TPM: &TPM{Dir: "tpm"}, ExtraArgs: []string{"-S"}})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(m.PID(), m.tpm.pid)
	select {}
}

func TestLimit(t *testing.T) {
	m := run(t, Config{Memory: "256M", Firmware: direct(t), Limit: time.Second})
	if _, err := m.Expect(bounded(t, 30*time.Second), "never printed"); !errors.Is(err, ErrLimit) {
		t.Errorf("got %v, want ErrLimit", err)
	}
}

func TestStartErrors(t *testing.T) {
	kernel := direct(t)
	for name, tc := range map[string]struct {
		config Config
		want   string
	}{
		"no firmware":   {Config{}, "no firmware"},
		"no kernel":     {Config{Firmware: Direct{}}, "without a kernel"},
		"no cert":       {Config{Firmware: UEFI{SecureBoot: true}}, "without a certificate"},
		"disk model":    {Config{Firmware: kernel, Disks: []Disk{{Path: "x", Model: "floppy"}}}, `unknown model "floppy"`},
		"NIC model":     {Config{Firmware: kernel, NICs: []NIC{{Model: "ne2000"}}}, `unknown model "ne2000"`},
		"MAC":           {Config{Firmware: kernel, NICs: []NIC{{MAC: "1:2"}}}, "not a MAC address"},
		"port":          {Config{Firmware: kernel, NICs: []NIC{{Net: User{Forwards: []Forward{{Guest: 70000}}}}}}, "not a pair of ports"},
		"missing disk":  {Config{Firmware: kernel, Disks: []Disk{{Path: "/does/not/exist"}}}, "No such file"},
		"missing image": {Config{Firmware: Direct{Kernel: "/does/not/exist"}}, "could not open kernel file"},
		"bad argument":  {Config{Firmware: kernel, ExtraArgs: []string{"-nonsense"}}, "invalid option"},
		"TPM folder":    {Config{Firmware: kernel, TPM: &TPM{}}, "without a folder"},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := Start(bounded(t, 30*time.Second), tc.config)
			if err == nil {
				m.Close()
				t.Fatal("started")
			}
			if !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %q, want %q in it", err, tc.want)
			}
		})
	}
}
