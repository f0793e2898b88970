package bpf

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Modes in which a program is on an interface.
const (
	Native  = "native"  // XDP in the driver, before the kernel has made a packet of its own
	Generic = "generic" // XDP behind the driver: works on every NIC, at a few times the cost
	TCX     = "tcx"
	Clsact  = "clsact"
)

// Attachment is a program on an interface.
type Attachment struct {
	Ifindex int
	Mode    string

	link   link.Link // nil for clsact, whose filters belong to the interface
	pin    string
	filter *filter
}

// AttachXDP puts prog on an interface: in the driver if it can, else generic. With pins the link is pinned, and
// one that is pinned for this interface already gets prog in its program's place: no packet passes between.
func AttachXDP(p *Pins, prog *ebpf.Program, ifindex int) (*Attachment, error) {
	if a, err := takeOver(p, "xdp", prog, ifindex); a != nil || err != nil {
		return a, err
	}
	l, native := link.AttachXDP(link.XDPOptions{Program: prog, Interface: ifindex, Flags: link.XDPDriverMode})
	if native == nil {
		return keep(p, "xdp", l, ifindex, Native)
	}
	l, err := link.AttachXDP(link.XDPOptions{Program: prog, Interface: ifindex, Flags: link.XDPGenericMode})
	if err != nil {
		return nil, fmt.Errorf("attach XDP to interface %d: native: %w; generic: %w", ifindex, native, err)
	}
	return keep(p, "xdp", l, ifindex, Generic)
}

// AttachEgress puts prog on what an interface is about to send.
func AttachEgress(p *Pins, prog *ebpf.Program, ifindex int) (*Attachment, error) {
	return attachTC(p, "egress", prog, ifindex, ebpf.AttachTCXEgress)
}

// AttachIngress puts prog on what an interface has received, behind XDP.
func AttachIngress(p *Pins, prog *ebpf.Program, ifindex int) (*Attachment, error) {
	return attachTC(p, "ingress", prog, ifindex, ebpf.AttachTCXIngress)
}

func attachTC(p *Pins, hook string, prog *ebpf.Program, ifindex int, at ebpf.AttachType) (*Attachment, error) {
	if a, err := takeOver(p, hook, prog, ifindex); a != nil || err != nil {
		return a, err
	}
	l, err := link.AttachTCX(link.TCXOptions{Program: prog, Interface: ifindex, Attach: at})
	if err == nil {
		return keep(p, hook, l, ifindex, TCX)
	}
	if !errors.Is(err, link.ErrNotSupported) {
		return nil, fmt.Errorf("attach to %s of interface %d: %w", hook, ifindex, err)
	}
	info, err := prog.Info()
	if err != nil {
		return nil, fmt.Errorf("attach to %s of interface %d: %w", hook, ifindex, err)
	}
	f := &filter{ifindex: uint32(ifindex), egress: hook == "egress", name: info.Name}
	if err := f.replace(prog); err != nil {
		return nil, fmt.Errorf("attach to %s of interface %d: %w", hook, ifindex, err)
	}
	return &Attachment{Ifindex: ifindex, Mode: Clsact, filter: f}, nil
}

// Close lets go of the link. One that is pinned, and a filter, go on working.
func (a *Attachment) Close() error {
	if a.link == nil {
		return nil
	}
	return a.link.Close()
}

// Detach takes the program off the interface.
func (a *Attachment) Detach() error {
	if a.filter != nil {
		return a.filter.remove()
	}
	var err error
	if a.pin != "" {
		err = a.link.Unpin()
	}
	return errors.Join(err, a.link.Close())
}

// KeepOnly takes the programs of a hook (xdp, egress, ingress) that are pinned for other interfaces than these off them:
// whoever moves to another one leaves the former by it.
func (p *Pins) KeepOnly(hook string, keep ...*Attachment) error {
	if p == nil {
		return nil
	}
	all, err := filepath.Glob(p.Path(hook) + "-*")
	for _, path := range all {
		if !slices.ContainsFunc(keep, func(a *Attachment) bool { return a.pin == path }) {
			err = errors.Join(err, detach(path))
		}
	}
	return err
}

// detach ends a pinned link at once; without its pin alone it would go some time after its last file is closed.
func detach(path string) error {
	l, err := link.LoadPinnedLink(path, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = errors.Join(l.Detach(), l.Close()) // one whose interface has gone is detached already: no error
	}
	return errors.Join(err, os.Remove(path))
}

// linkName names a pinned link by hook, network namespace and interface: an index alone means another
// interface in each namespace. The mode comes last, as the kernel does not tell it of a link.
func linkName(hook string, ifindex int) (string, error) {
	var st unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &st); err != nil {
		return "", fmt.Errorf("stat network namespace: %w", err)
	}
	return fmt.Sprintf("%s-%d-%d-", hook, st.Ino, ifindex), nil
}

// takeOver puts prog into a link that is pinned for this interface; nil if there is none that lives.
func takeOver(p *Pins, hook string, prog *ebpf.Program, ifindex int) (*Attachment, error) {
	if p == nil {
		return nil, nil
	}
	name, err := linkName(hook, ifindex)
	if err != nil {
		return nil, err
	}
	found, err := filepath.Glob(p.Path(name) + "*")
	if err != nil || len(found) == 0 {
		return nil, err
	}
	path := found[0]
	l, err := link.LoadPinnedLink(path, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open pinned link %s: %w", path, err)
	}
	err = l.Update(prog)
	if errors.Is(err, unix.ENOLINK) || errors.Is(err, unix.ENOENT) {
		// Its interface has gone; this one has only inherited the number.
		return nil, errors.Join(l.Close(), os.Remove(path))
	}
	if err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("replace the program of %s: %w", path, err)
	}
	return &Attachment{Ifindex: ifindex, Mode: strings.TrimPrefix(path, p.Path(name)), link: l, pin: path}, nil
}

func keep(p *Pins, hook string, l link.Link, ifindex int, mode string) (*Attachment, error) {
	a := &Attachment{Ifindex: ifindex, Mode: mode, link: l}
	if p == nil {
		return a, nil
	}
	name, err := linkName(hook, ifindex)
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	a.pin = p.Path(name + mode)
	if err := l.Pin(a.pin); err != nil {
		return nil, errors.Join(fmt.Errorf("pin link: %w", err), l.Close())
	}
	return a, nil
}
