package systems

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/image/builder"
	"github.com/ratchetos/ratchet/plugins/gateway/api"
)

const workstationConfig = `version: 1
hostname: workstation
tpm: none
api: {listen: none}
time: {ntp: []}
plugins:
  gateway:
    volumes:
      - name: demo
        size: 64MiB
        disk: file:%[1]s/disk
        store: {driver: dir, path: %[1]s/store}
    nbd: {listen: ["unix:%[1]s/nbd.sock"]}
`

// workstation is core on the host, as on a developer's machine.
type workstation struct {
	t            *testing.T
	dir, ratchet string
}

// pluginKilled holds the gateway to invariant S5: a client that outlives the plugin – QEMU's, which reconnects by itself
// – must not be told that a FLUSH succeeded unless all it was acknowledged before is there.
func pluginKilled(t *testing.T) {
	_, image := workspace(t, "plugin-killed", "full")
	w := startWorkstation(t, filepath.Join(image, builder.ApplianceFile))
	client := w.client(60)
	const kills = 3
	var slowest time.Duration
	for i := range kills {
		at := i * 16
		client.does(fmt.Sprintf("write -P %d %dM 4M", i+1, at), "wrote 4194304/4194304")
		pid := w.pid()
		// Writes under way when the plugin dies are the client's to repeat.
		for j := range 4 {
			client.does(fmt.Sprintf("aio_write -P %d %dM 2M", i+101, at+4+2*j), "")
		}
		start := time.Now()
		must(t, syscall.Kill(pid, syscall.SIGKILL))
		client.does("aio_flush", "")
		client.does("flush", "")
		client.does(fmt.Sprintf("read -P %d %dM 4M", i+1, at), "read 4194304/4194304")
		slowest = max(slowest, time.Since(start))
		client.does(fmt.Sprintf("read -P %d %dM 8M", i+101, at+4), "read 8388608/8388608")
		if now := w.pid(); now == pid {
			t.Fatal("the plugin was not killed")
		}
	}
	w.restarted(t, client)
	seen(t, "gateway killed %d times under QEMU's NBD client: the same client flushes and reads its data, at most %d ms later", kills, slowest.Milliseconds())
}

// restarted changes the gateway's process on purpose, under a client that does not reconnect: it must not notice.
func (w *workstation) restarted(t *testing.T, other *qemuIO) {
	client := w.client(0)
	client.does("write -P 77 60M 1M", "wrote 1048576/1048576")
	for i := range 3 {
		pid := w.pid()
		for j := range 4 {
			client.does(fmt.Sprintf("aio_write -P %d %dM 2M", i+201, 48+2*j), "")
		}
		w.ctl("plugin", "restart", "gateway")
		client.does("aio_flush", "")
		client.does(fmt.Sprintf("read -P %d 48M 8M", i+201), "read 8388608/8388608")
		client.does("read -P 77 60M 1M", "read 1048576/1048576")
		other.does("read -P 77 60M 1M", "read 1048576/1048576")
		if w.pid() == pid {
			t.Fatal("the process was not replaced")
		}
	}
	seen(t, "gateway restarted 3 times on purpose, with writes under way: clients keep their connections")
}

func startWorkstation(t *testing.T, ratchet string) *workstation {
	t.Helper()
	dir := workstationDir(t)
	return startWorkstationIn(t, ratchet, dir, fmt.Sprintf(workstationConfig, dir))
}

func workstationDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ratchet") //nolint:usetesting // sockets need short paths
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755)) // a plugin runs as a user of its own, also here
	return dir
}

// startWorkstationIn has a disk and a store in dir, and waits for the volume demo.
func startWorkstationIn(t *testing.T, ratchet, dir, configuration string) *workstation {
	t.Helper()
	must(t, os.Mkdir(filepath.Join(dir, "store"), 0o755))
	disk, err := os.Create(filepath.Join(dir, "disk"))
	must(t, err)
	must(t, disk.Truncate(256<<20))
	must(t, disk.Close())
	config := filepath.Join(dir, "ratchet.yaml")
	must(t, os.WriteFile(config, []byte(configuration), 0o600))

	w := &workstation{t, dir, ratchet}
	cmd := command(t.Context(), nil, ratchet, "core", "--config", config, "--state", filepath.Join(dir, "state"), "--run", filepath.Join(dir, "run"))
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 30 * time.Second
	said, err := cmd.StderrPipe()
	must(t, err)
	must(t, cmd.Start())
	ready := make(chan string, 1)
	logged := make(chan struct{})
	go func() {
		defer close(logged)
		for in := bufio.NewScanner(said); in.Scan(); {
			if strings.HasPrefix(in.Text(), "ratchet: ready: ") {
				ready <- in.Text()
			}
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-logged
		_ = cmd.Wait()
	})
	select {
	case line := <-ready:
		if !strings.HasPrefix(line, "ratchet: ready: 1 of 1 ") {
			t.Fatal(line)
		}
	case <-logged:
		t.Fatal("core on the host ended at once")
	case <-within(t, stepLimit).Done():
		t.Fatal("core on the host is not ready")
	}
	await(t, stepLimit, "the volume to be attached", func() (string, bool) {
		s := decode[api.Volume](t, []byte(w.ctl("volume", "show", "demo", "-o", "json")))
		return fmt.Sprintf("%+v", s), s.State == "attached"
	})
	return w
}

func (w *workstation) ctl(args ...string) string {
	w.t.Helper()
	return tool(w.t, nil, w.ratchet, append([]string{"ctl", "--address", "unix:" + filepath.Join(w.dir, "run", "api.sock")}, args...)...)
}

// pid is that of the gateway's process, once it serves.
func (w *workstation) pid() (pid int) {
	w.t.Helper()
	await(w.t, stepLimit, "the gateway to be ready", func() (string, bool) {
		out := w.ctl("plugin", "list", "-o", "json")
		list := decode[struct {
			Plugins []struct {
				Name, State string
				PID         int
			}
		}](w.t, []byte(out))
		for _, p := range list.Plugins {
			if p.Name == "gateway" && p.State == "ready" && p.PID > 0 {
				pid = p.PID
				return "", true
			}
		}
		return out, false
	})
	return pid
}

// prompt is what qemu-io ends a command with.
const prompt = "qemu-io> "

// qemuIO is one long-lived client.
type qemuIO struct {
	t      *testing.T
	in     io.Writer
	output <-chan string
	said   string // since the last prompt
}

// client connects one that tries to reconnect for so many seconds.
func (w *workstation) client(reconnect int) *qemuIO {
	w.t.Helper()
	return openQemuIO(w.t, fmt.Sprintf(
		"driver=raw,file.driver=nbd,file.server.type=unix,file.server.path=%s/nbd.sock,file.export=demo,file.reconnect-delay=%d", w.dir, reconnect))
}

// openQemuIO starts a client that stays until the test ends.
func openQemuIO(t *testing.T, options string) *qemuIO {
	t.Helper()
	cmd := command(t.Context(), nil, "qemu-io", "--image-opts", options)
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	cmd.Stderr = cmd.Stdout
	must(t, cmd.Start())
	output := make(chan string, 64)
	go func() {
		defer close(output)
		b := make([]byte, 4096)
		for {
			n, err := out.Read(b)
			if err != nil {
				return
			}
			output <- string(b[:n])
		}
	}()
	q := &qemuIO{t: t, in: in, output: output}
	t.Cleanup(func() {
		_ = in.Close() // the end of its input ends it
		for range output {
		}
		_ = cmd.Wait()
	})
	q.prompted("start")
	return q
}

// does runs a command and wants its output, if any is named. The next one is only sent after the prompt: qemu-io leaves
// lines that come together in its buffer.
func (q *qemuIO) does(command, output string) {
	q.t.Helper()
	_, err := io.WriteString(q.in, command+"\n")
	must(q.t, err)
	if said := q.prompted(command); !strings.Contains(said, output) || strings.Contains(said, "failed") {
		q.t.Fatalf("qemu-io %s: %s", command, said)
	}
}

// prompted waits until qemu-io wants the next command and returns what it said before.
func (q *qemuIO) prompted(command string) (said string) {
	q.t.Helper()
	limit := within(q.t, stepLimit)
	for {
		if before, after, ok := strings.Cut(q.said, prompt); ok {
			q.said = after
			return before
		}
		select {
		case more, ok := <-q.output:
			if !ok {
				q.t.Fatalf("qemu-io ended at %q: %s", command, q.said)
			}
			q.said += more
		case <-limit.Done():
			q.t.Fatalf("qemu-io %s: no end; it said: %s", command, q.said)
		}
	}
}
