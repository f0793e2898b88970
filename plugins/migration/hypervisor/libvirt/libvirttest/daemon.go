package libvirttest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const nobody = 65534

// Daemon is a running libvirtd.
type Daemon struct {
	Name   string
	Socket string // its unix socket
	TLS    string // where it listens for TLS, "127.0.0.1:PORT"
	Dir    string // for images of its VMs; it may read and write there
	PKI    *PKI

	ports  net.Listener // claims the ports for streams
	keeper *exec.Cmd
	life   io.Closer // while it is open the keeper keeps
	pid    int
	output bytes.Buffer
	exited chan struct{}
	kept   []kept
}

// kept is an earlier keeper.
type kept struct {
	keeper *exec.Cmd
	life   io.Closer
}

// Start starts a daemon in the directory dir, which it shares with others that move VMs to and from it. Certificates of
// pki are for its TLS port and for the streams of its migrations; without a pki streams are plain, and nobody has a
// certificate to come in with.
func Start(dir, name string, pki *PKI) (*Daemon, error) {
	d := &Daemon{Name: name, Dir: filepath.Join(dir, name), PKI: pki}
	d.Socket = filepath.Join(d.Dir, "run/libvirt/libvirt-sock")
	err := d.prepare(dir)
	if err == nil {
		err = d.start()
	}
	if err != nil {
		if d.ports != nil {
			err = errors.Join(err, d.ports.Close())
		}
		return nil, fmt.Errorf("start libvirtd %s: %w", name, err)
	}
	return d, nil
}

// prepare writes what a daemon reads.
func (d *Daemon) prepare(shared string) error {
	for _, sub := range []string{"home", "config/libvirt", "run/libvirt", "pki"} {
		if err := os.MkdirAll(filepath.Join(d.Dir, sub), 0o755); err != nil {
			return err
		}
	}
	// What a QEMU binary can do takes seconds to find out, once for all daemons.
	if err := os.MkdirAll(filepath.Join(shared, "cache"), 0o755); err != nil {
		return err
	}
	pki, streams := filepath.Join(d.Dir, "pki"), ""
	authority := d.PKI
	if authority == nil {
		var err error
		if authority, err = NewPKI(); err != nil { // the daemon does not start without certificates
			return err
		}
	} else {
		streams = fmt.Sprintf("migrate_tls_x509_cert_dir = %q\nmigrate_tls_x509_verify = 1\n", pki)
	}
	if err := authority.write(pki, d.Name); err != nil {
		return err
	}
	var err error
	if d.ports, err = claim(); err != nil {
		return err
	}
	firstPort := d.ports.Addr().(*net.TCPAddr).Port + 1
	files := map[string]string{
		"libvirtd.conf": fmt.Sprintf("auth_unix_rw = \"none\"\nauth_tls = \"none\"\nca_file = %q\ncert_file = %q\nkey_file = %q\n",
			pki+"/ca-cert.pem", pki+"/server-cert.pem", pki+"/server-key.pem"),
		// libvirt refuses 127.0.0.1 as the address of streams here: whoever moves a VM names it.
		"qemu.conf": fmt.Sprintf("security_driver = \"none\"\ncgroup_controllers = []\nnamespaces = []\nclear_emulator_capabilities = 0\nstdio_handler = \"file\"\n"+
			"migration_port_min = %d\nmigration_port_max = %d\n%s", firstPort, firstPort+portRange-2, streams),
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(d.Dir, "config/libvirt", name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	if os.Getuid() != 0 {
		return nil
	}
	for _, root := range []string{d.Dir, filepath.Join(shared, "cache")} {
		err := filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
			return errors.Join(err, os.Lchown(path, nobody, nobody))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Ports for streams are handed out in ranges, each to one daemon of the machine: daemons that share one, as two hosts never
// do, give the same port to two QEMUs. Unlike libvirt's own choice they are not among those that the kernel gives to
// outgoing connections, one of which in the way fails a migration.
const (
	lowestPort = 10_000
	portRange  = 50
	portRanges = 400
)

// claim takes a range of ports, for as long as the listener on the first of them is open. The others are for streams.
func claim() (net.Listener, error) {
	first := os.Getpid() % portRanges // programs that begin at different places seldom meet
	for i := range portRanges {
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(lowestPort+(first+i)%portRanges*portRange)))
		if err == nil || !errors.Is(err, syscall.EADDRINUSE) {
			return l, err
		}
	}
	return nil, fmt.Errorf("claim ports for streams: all from %d to %d are taken", lowestPort, lowestPort+portRanges*portRange-1)
}

// start runs the daemon on sockets made here.
func (d *Daemon) start() error {
	// That of an earlier one may be left.
	if err := os.Remove(d.Socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	local, err := net.ListenUnix("unix", &net.UnixAddr{Name: d.Socket, Net: "unix"})
	if err != nil {
		return err
	}
	defer local.Close()
	local.SetUnlinkOnClose(false)
	if err := os.Chmod(d.Socket, 0o777); err != nil {
		return err
	}
	where := "127.0.0.1:0"
	if d.TLS != "" {
		where = d.TLS // the same as before a restart
	}
	remote, err := net.Listen("tcp", where)
	if err != nil {
		return err
	}
	defer remote.Close()
	d.TLS = remote.Addr().String()
	first, err := local.File()
	if err != nil {
		return err
	}
	defer first.Close()
	second, err := remote.(*net.TCPListener).File()
	if err != nil {
		return err
	}
	defer second.Close()

	word, its, err := os.Pipe()
	if err != nil {
		return err
	}
	defer its.Close()
	d.keeper = exec.Command("/proc/self/exe")
	d.keeper.ExtraFiles = []*os.File{first, second, its}
	d.keeper.Stdout, d.keeper.Stderr = &d.output, &d.output
	d.keeper.Env = []string{
		keeperEnv + "=yes", "PATH=" + os.Getenv("PATH") + ":/usr/sbin", "LISTEN_FDS=2", "LISTEN_FDNAMES=libvirtd.socket:libvirtd-tls.socket",
		"HOME=" + d.Dir + "/home", "XDG_CONFIG_HOME=" + d.Dir + "/config", "XDG_RUNTIME_DIR=" + d.Dir + "/run",
		"XDG_CACHE_HOME=" + filepath.Dir(d.Dir) + "/cache",
	}
	if d.life, err = d.keeper.StdinPipe(); err != nil {
		return err
	}
	if err := d.keeper.Start(); err != nil {
		return err
	}
	return d.listen(word)
}

// listen takes the process id of libvirtd from its keeper, and waits in the background for the end of it.
func (d *Daemon) listen(word *os.File) error {
	its := bufio.NewReader(word)
	line, err := its.ReadString('\n')
	if err == nil {
		d.pid, err = strconv.Atoi(strings.TrimSpace(line))
	}
	if err != nil {
		return fmt.Errorf("its keeper has not started it; does the program call libvirttest.Keeper? %w\n%s", err, d.output.String())
	}
	exited := make(chan struct{})
	d.exited = exited
	go func() {
		defer close(exited)
		defer word.Close()
		_, _ = io.Copy(io.Discard, its)
	}()
	return nil
}

// Restart ends the daemon as a crash does, and starts it again. Its VMs go on meanwhile. It is not asked to end: libvirtd 9
// does not while a migration's job is in the way.
func (d *Daemon) Restart() error {
	d.kill()
	d.kept = append(d.kept, kept{d.keeper, d.life}) // of the VMs that go on
	return d.start()
}

func (d *Daemon) kill() {
	_ = unix.Kill(d.pid, unix.SIGKILL)
	<-d.exited
}

// Close ends the daemon and its VMs.
func (d *Daemon) Close() {
	for _, k := range append(d.kept, kept{d.keeper, d.life}) {
		_ = k.life.Close()
		_ = k.keeper.Wait() // it ends once all of its children have
	}
	_ = d.ports.Close()
}

// KillVM ends the QEMU of one of its VMs as a crash does.
func (d *Daemon) KillVM(name string) {
	text, err := os.ReadFile(filepath.Join(d.Dir, "run/libvirt/qemu/run", name+".pid"))
	if err != nil {
		return // ended
	}
	if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && d.owns(pid) {
		_ = syscall.Kill(pid, syscall.SIGKILL) // one that has ended was to be ended
	}
}

// owns tells whether a process is a QEMU of this daemon: a number that was written down may be somebody else's by now.
func (d *Daemon) owns(pid int) bool {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return err == nil && bytes.Contains(line, []byte(d.Dir))
}

// Log is what the daemon said.
func (d *Daemon) Log() string { return d.output.String() }

// Virsh runs virsh against the daemon: a second opinion.
func (d *Daemon) Virsh(args ...string) (string, error) {
	cmd := exec.Command("virsh", append([]string{"-q", "-c", "qemu+unix:///session?socket=" + d.Socket}, args...)...)
	// Without a home of its own virsh writes into that of whoever runs the test.
	home := d.Dir + "/home"
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "XDG_CACHE_HOME=" + home, "XDG_RUNTIME_DIR=" + home}
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}
