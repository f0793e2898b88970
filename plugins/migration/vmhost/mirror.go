package vmhost

import (
	"context"
	"encoding/json"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Disks are mirrored over connections that QEMU makes itself. It waits without a limit for what is under way on one, also
// when the job is to be cancelled by force, and writes of the guest wait with it. Who cancels by force wants nothing more
// from the other side: the agent ends the connection then.

// mirrors takes where the nodes lead that the manager adds, and forgets those it deletes.
func (m *machine) mirrors(command string, arguments json.RawMessage) {
	var a struct {
		Node   string `json:"node-name"`
		Server struct{ Host, Port string }
	}
	if json.Unmarshal(arguments, &a) != nil || a.Node == "" {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch command {
	case "blockdev-add":
		if m.targets == nil {
			m.targets = map[string]string{}
		}
		m.targets[a.Node] = net.JoinHostPort(a.Server.Host, a.Server.Port)
	case "blockdev-del":
		delete(m.targets, a.Node)
	}
}

// cancelJob is QEMU's block-job-cancel.
func (m *machine) cancelJob(ctx context.Context, arguments json.RawMessage) error {
	var a struct {
		Device string
		Force  bool
	}
	if json.Unmarshal(arguments, &a) == nil && a.Force {
		if err := m.cutMirror(ctx, a.Device); err != nil {
			m.host.o.Log.Warn("a mirror that stalls cannot be cut", "vm", m.name, "job", a.Device, "err", err)
		}
	}
	return m.do(ctx, "block-job-cancel", arguments, nil)
}

// cutMirror ends the connections of the node that a job writes to; jobs are named for it (package qmp).
func (m *machine) cutMirror(ctx context.Context, node string) error {
	m.mu.Lock()
	target, ok := m.targets[node]
	m.mu.Unlock()
	if !ok {
		return nil
	}
	host, port, err := net.SplitHostPort(target)
	if err != nil {
		return err
	}
	addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return err
	}
	peers := map[netip.AddrPort]bool{}
	for _, a := range addresses {
		if p, err := netip.ParseAddrPort(net.JoinHostPort(a.Unmap().String(), port)); err == nil {
			peers[p] = true
		}
	}
	return m.proc.sockets(func(fd int) error {
		if !peers[endpoint(unix.Getpeername(fd))] {
			return nil
		}
		return unix.Shutdown(fd, unix.SHUT_RDWR)
	})
}
