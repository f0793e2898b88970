package vni

import "github.com/ratchetos/ratchet/plugins/dataplane/vni/failover"

// Status lists the VNIs.
func (p *Part) Status() []failover.Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.engine == nil {
		return nil
	}
	return p.engine.Status(clock())
}
