package migration

import (
	"context"
	"fmt"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/qmp"
)

// dialer returns how to reach a host, whose address was checked by parse. m has the credentials of hosts that VMs are
// moved between.
func dialer(m *mover, conf HostConfig) hypervisor.Dial {
	switch {
	case conf.QMP != "":
		return dialMonitor(conf)
	}
	return func(context.Context) (hypervisor.Host, error) { return nil, fmt.Errorf("no way to %s", conf.address()) }
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
