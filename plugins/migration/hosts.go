package migration

import (
	"context"
	"strings"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/libvirt"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/qmp"
)

// dialer returns how to reach a host, whose address was checked by parse. m has the credentials of hosts that VMs are
// moved between; it is nil where all are only followed.
func dialer(m *mover, conf HostConfig) hypervisor.Dial {
	switch {
	case conf.VMHost != "":
		return m.dialVMHost(conf)
	case conf.Libvirt != "":
		return m.dialLibvirt(conf)
	}
	return dialMonitor(conf)
}

// dialVMHost connects to an agent beside bare QEMUs.
func (m *mover) dialVMHost(conf HostConfig) hypervisor.Dial {
	return func(ctx context.Context) (hypervisor.Host, error) {
		credentials, err := m.authority.ClientTLS(conf.Name)
		if err != nil {
			return nil, err
		}
		port, err := qmp.DialVMHost(ctx, qmp.VMHost{
			Name: conf.Name, Address: conf.VMHost, TLS: credentials, Epoch: m.runner.Epoch(), Plain: conf.Plain,
			Peers: func(_ context.Context, host string) (hypervisor.Port, error) { return m.port(host) },
		})
		if err != nil {
			return nil, err // not port: a nil pointer in an interface is not nil
		}
		return port, nil
	}
}

// dialLibvirt connects to a libvirtd.
func (m *mover) dialLibvirt(conf HostConfig) hypervisor.Dial {
	return func(ctx context.Context) (hypervisor.Host, error) {
		c := conf.libvirt(m.files)
		c.Moves, c.Log = &m.libvirt, m.log.With("host", conf.Name)
		port, err := libvirt.Dial(ctx, c)
		if err != nil {
			return nil, err
		}
		return port, nil
	}
}

// libvirt is the adapter's configuration. files has what is in files; without it only text is taken in.
func (h HostConfig) libvirt(files map[string][]byte) libvirt.Config {
	pem := func(field string) []byte {
		text := h.TLS.fields()[field]
		if strings.HasPrefix(text, "file:") {
			return files[wantPEM(h.Name, field)]
		}
		return []byte(text)
	}
	return libvirt.Config{
		Name: h.Name, Address: h.Libvirt, CA: pem("ca"), Cert: pem("certificate"), Key: pem("key"), ServerName: h.TLS.Name,
		Stream: h.Stream.Address, StreamName: h.Stream.Name, Listen: h.Stream.Listen, Plain: h.Plain, Networks: h.Networks,
	}
}

// dialMonitor connects to one QEMU, which is followed only.
func dialMonitor(conf HostConfig) hypervisor.Dial {
	name := conf.VM
	if name == "" {
		name = conf.Name
	}
	return func(ctx context.Context) (hypervisor.Host, error) {
		network, address, err := qmp.ParseAddress(conf.QMP)
		if err != nil {
			return nil, err
		}
		host, err := qmp.DialHost(ctx, network, address, name, nil)
		if err != nil {
			return nil, err // not host: a nil *qmp.Host in an interface is not nil
		}
		return host, nil
	}
}
