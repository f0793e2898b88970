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

// Move hands a VNI to one of its candidates on an operator's word.
func (p *Part) Move(id uint32, host, instance string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.engine == nil {
		return errStopped
	}
	err := p.engine.Move(clock(), id, failover.Candidate{Host: host, Instance: instance})
	p.act()
	return err
}
