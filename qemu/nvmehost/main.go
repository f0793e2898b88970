// Command nvmehost is PID 1 of a guest that is an NVMe/TCP host: it connects to a subsystem with the kernel's own
// initiator, tries what a disk must do, and then keeps writing and flushing until the time is over, whatever happens
// to the other side meanwhile. In the end everything that was flushed must read back.
//
// The kernel's command line says where and how long: nvme.traddr=, nvme.trsvcid=, nvme.nqn=, nvme.hostnqn=, nvme.time=.
package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/qemu/guest/inside"
)

const (
	disk  = "/dev/nvme0n1"
	sys   = "/sys/block/nvme0n1/"
	block = 4096
	// span is what is written over and over, in blocks.
	span = 1024
	// discard is BLKDISCARD of linux/fs.h.
	discard = 0x1277
)

func main() { inside.Main(run) }

func run() error {
	if err := network(); err != nil {
		return err
	}
	if err := connect(argument("nvme.hostnqn=")); err != nil {
		return err
	}
	// The kernel makes the node of a disk before its link in /sys/block.
	if err := errors.Join(exists(disk), exists(sys)); err != nil {
		return err
	}
	inside.Say("connected uuid=%s nguid=%s size=%s", attribute("uuid"), attribute("nguid"), attribute("size"))
	f, err := os.OpenFile(disk, os.O_RDWR|unix.O_DIRECT, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := basics(f); err != nil {
		return err
	}
	inside.Say("verified")
	return endure(f)
}

// network is QEMU's: the host is at 10.0.2.2.
func network() error {
	name := "eth0"
	for range 100 {
		if _, err := net.InterfaceByName(name); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	r, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	for _, a := range []struct {
		request uint
		address []byte
	}{{unix.SIOCSIFADDR, []byte{10, 0, 2, 15}}, {unix.SIOCSIFNETMASK, []byte{255, 255, 255, 0}}} {
		if err := r.SetInet4Addr(a.address); err != nil {
			return err
		}
		if err := unix.IoctlIfreq(s, a.request, r); err != nil {
			return fmt.Errorf("configure %s: %w", name, err)
		}
	}
	r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, r)
}

// connect is what `nvme connect` does.
func connect(host string) error {
	f, err := os.OpenFile("/dev/nvme-fabrics", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err = fmt.Fprintf(f, "transport=tcp,traddr=%s,trsvcid=%s,nqn=%s,hostnqn=%s,nr_io_queues=2,keep_alive_tmo=30,reconnect_delay=1,ctrl_loss_tmo=120",
		argument("nvme.traddr="), argument("nvme.trsvcid="), argument("nvme.nqn="), host); err != nil {
		return fmt.Errorf("connect as %s: %w", host, err)
	}
	return nil
}

func exists(path string) error {
	for range 1000 {
		if _, err := os.Stat(path); err == nil {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("%s did not appear", path)
}

// basics: data, flush, and discarded blocks that read as zeroes.
func basics(f *os.File) error {
	both, err := aligned(2 << 20)
	if err != nil {
		return err
	}
	p, q := both[:1<<20], both[1<<20:]
	for i := range p {
		p[i] = byte(i >> 8)
	}
	const at = 8 << 20
	if _, err := f.WriteAt(p, at); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	half := [2]uint64{at, 512 << 10}
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, f.Fd(), discard, uintptr(unsafe.Pointer(&half))); e != 0 {
		return fmt.Errorf("discard: %w", e)
	}
	clear(p[:512<<10])
	if _, err := f.ReadAt(q, at); err != nil {
		return err
	}
	if !bytes.Equal(p, q) {
		return errors.New("what was written or discarded does not read back")
	}
	return nil
}

// endure writes numbered blocks, flushes after every eight, and remembers what was flushed, until the time is over.
func endure(f *os.File) error {
	limit, err := time.ParseDuration(argument("nvme.time="))
	if err != nil {
		return err
	}
	start := time.Now()
	var flushed [span]uint64
	var pending [span]uint64
	var worst time.Duration
	flushes := 0
	p, err := aligned(block)
	if err != nil {
		return err
	}
	for n := uint64(1); time.Since(start) < limit; n++ {
		i := n * 7 % span
		binary.LittleEndian.PutUint64(p, n)
		binary.LittleEndian.PutUint64(p[block-8:], n)
		began := time.Now()
		if _, err := f.WriteAt(p, int64(i)*block); err != nil {
			return fmt.Errorf("write %d: %w", n, err)
		}
		pending[i] = n
		if n%8 == 0 {
			if err := f.Sync(); err != nil {
				return fmt.Errorf("flush %d: %w", n, err)
			}
			flushed = pending
			flushes++
		}
		worst = max(worst, time.Since(began))
	}
	inside.Say("endured size=%s flushes=%d worst=%s", attribute("size"), flushes, worst.Round(time.Millisecond))
	for i, n := range flushed {
		if n == 0 {
			continue
		}
		if _, err := f.ReadAt(p, int64(i)*block); err != nil {
			return err
		}
		first, last := binary.LittleEndian.Uint64(p), binary.LittleEndian.Uint64(p[block-8:])
		if first != last || first < n || first > pending[i] {
			return fmt.Errorf("block %d holds write %d/%d, flushed was %d", i, first, last, n)
		}
	}
	return nil
}

func aligned(n int) ([]byte, error) {
	p, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("map %d bytes: %w", n, err)
	}
	return p, nil
}

func attribute(name string) string {
	b, err := os.ReadFile(sys + name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

func argument(name string) string {
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return ""
	}
	for _, word := range strings.Fields(string(line)) {
		if rest, ok := strings.CutPrefix(word, name); ok {
			return rest
		}
	}
	return ""
}
