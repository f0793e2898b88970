package args

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/ratchetos/ratchet/plugins/migration/model"
)

// Object is what QEMU takes as JSON.
type Object map[string]any

// text has the keys sorted, so that it is the same each time.
func (o Object) text() string {
	b, _ := json.Marshal(o) // strings, numbers and lists of them: cannot fail
	return string(b)
}

// Options are what a host adds to a shape.
type Options struct {
	// Dir holds the sockets of channels, and the logs of those that are consoles.
	Dir string
	// MonitorFD is the listening socket of the monitor, in QEMU's process.
	MonitorFD int
	// Networks by their name in shapes.
	Networks map[string]Network
	// Tokens by volume: this host's secret at the gateway. A volume without one is attached by its name alone.
	Tokens map[string]string
	// NBDCredentials is a directory as tls-creds-x509 wants it, for gateways that are reached over TCP; empty is no TLS.
	NBDCredentials string
	// PIDFile is written by QEMU, and locked for as long as it lives; empty is none.
	PIDFile string
	// LogConsoles keeps what guests print on channels whose names begin with "serial".
	LogConsoles bool
	// Incoming starts the destination of a move: stopped, and waiting to be told where to listen.
	Incoming bool
	// StateFD is a saved state to go on from, in QEMU's process; 0 is none.
	StateFD int
	// Paused starts a VM that waits for its first instruction.
	Paused bool
}

// Build makes the arguments, without the program's name.
func Build(s model.Shape, o Options) ([]string, error) {
	if err := Check(s); err != nil {
		return nil, err
	}
	b := &builder{shape: s, o: o}
	b.board()
	b.channels()
	b.networks()
	b.disks()
	b.devices()
	b.boot()
	if b.err != nil {
		return nil, b.err
	}
	return b.args, nil
}

type builder struct {
	shape model.Shape
	o     Options
	args  []string
	err   error
}

func (b *builder) add(args ...string) { b.args = append(b.args, args...) }

func (b *builder) board() {
	s := b.shape
	b.add("-name", "guest="+s.VM+",debug-threads=on")
	if s.UUID != "" {
		b.add("-uuid", s.UUID)
	}
	b.add("-machine", s.Machine, "-accel", s.Accel, "-cpu", cpu(s.CPU))
	// One vCPU belongs to the board, the others are devices, so that each of them can be taken away again. The topology is
	// said in full: what QEMU makes of maxcpus alone depends on the age of the board.
	n := strconv.Itoa(s.MaxVCPUs)
	b.add("-smp", "1,maxcpus="+n+",sockets=1,cores="+n+",threads=1")
	b.add("-m", memory(s.Memory))
	b.add("-nodefaults", "-no-user-config", "-display", "none", "-boot", "strict=on")
	if b.o.PIDFile != "" {
		b.add("-pidfile", b.o.PIDFile)
	}
	b.add("-chardev", "socket,id=monitor,fd="+strconv.Itoa(b.o.MonitorFD)+",server=on,wait=off", "-mon", "chardev=monitor,mode=control")
}

// cpu names every flag in force, if it is known: with enforce QEMU refuses to start rather than leave one out, which the
// guest would only notice by dying.
func cpu(c model.CPU) string {
	if len(c.Features) == 0 {
		return c.Model
	}
	return c.Model + "," + strings.Join(c.Features, "=on,") + "=on,enforce=on"
}

// memory is in KiB: memory of a board under TCG must not be a multiple of 256 KiB.
func memory(m model.Memory) string {
	kib := func(n uint64) string { return strconv.FormatUint(n>>10, 10) + "K" }
	arg := "size=" + kib(m.Boot)
	if m.Max > 0 {
		arg += ",slots=" + strconv.Itoa(m.Slots) + ",maxmem=" + kib(m.Max)
	}
	return arg
}

// Channels are the character devices that a shape's devices name: sockets of the host.
func Channels(s model.Shape) []string {
	var names []string
	for _, d := range s.Others {
		if name := property(d.Args, "chardev"); name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// Socket is the path of a channel's socket.
func Socket(dir, channel string) string { return path.Join(dir, channel+".sock") }

func (b *builder) channels() {
	for _, name := range Channels(b.shape) {
		arg := "socket,id=" + name + ",path=" + Socket(b.o.Dir, name) + ",server=on,wait=off"
		if b.o.LogConsoles && strings.HasPrefix(name, "serial") {
			arg += ",logfile=" + path.Join(b.o.Dir, name+".log") + ",logappend=on"
		}
		b.add("-chardev", arg)
	}
}

func (b *builder) networks() {
	seen := map[string]bool{}
	for _, n := range b.shape.NICs {
		w, ok := b.o.Networks[n.Network]
		if !ok {
			b.err = errors.Join(b.err, fmt.Errorf("NIC %s: this host has no network %q: add it to `networks` in its configuration", n.ID, n.Network))
			continue
		}
		if !seen[n.Network] {
			seen[n.Network] = true
			for _, o := range w.Segment(n.Network) {
				b.add("-netdev", o.text())
			}
		}
		b.add("-netdev", w.Port(n.Network, n.ID).text())
	}
}

func (b *builder) disks() {
	creds := false
	for _, d := range b.shape.Disks {
		o, err := Node(d, b.o)
		if err != nil {
			b.err = errors.Join(b.err, err)
			continue
		}
		if o["tls-creds"] != nil && !creds {
			creds = true
			b.add("-object", Credentials(b.o).text())
		}
		b.add("-blockdev", o.text())
	}
}

// devices come in the order in which they need each other: controllers before what hangs on them.
func (b *builder) devices() {
	s := b.shape
	for _, d := range s.Others {
		b.add("-device", d.Args)
	}
	for _, d := range s.Memory.DIMMs {
		b.add("-object", MemoryBackend(d.ID, d.Size).text(), "-device", DIMM(d).text())
	}
	for _, v := range s.Memory.VirtioMem {
		b.add("-object", MemoryBackend(v.ID, v.Max).text(), "-device", VirtioMem(v).text())
	}
	for n := 1; n < s.VCPUs; n++ {
		b.add("-device", VCPU(s.CPU.Model, n).text())
	}
	for _, n := range s.NICs {
		b.add("-device", NIC(n).text())
	}
	for _, d := range s.Disks {
		b.add("-device", Disk(d).text())
	}
}

func (b *builder) boot() {
	boot := b.shape.Boot
	if boot.Firmware != "" {
		b.add("-bios", boot.Firmware)
	}
	if boot.Kernel != "" {
		b.add("-kernel", boot.Kernel)
		if boot.Initrd != "" {
			b.add("-initrd", boot.Initrd)
		}
		b.add("-append", boot.Append)
	}
	if b.o.Incoming || b.o.Paused {
		b.add("-S")
	}
	switch {
	case b.o.Incoming:
		b.add("-incoming", "defer")
	case b.o.StateFD > 0:
		b.add("-incoming", "fd:"+strconv.Itoa(b.o.StateFD))
	}
}

// property is the value of a key in a -device argument.
func property(arg, key string) string {
	for part := range strings.SplitSeq(arg, ",") {
		if k, v, ok := strings.Cut(part, "="); ok && k == key {
			return v
		}
	}
	return ""
}
