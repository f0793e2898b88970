// Package balancer is the load balancer's control: configuration, capacity, health, announcing and the link to peers.
//
// Packets are the business of the program on the NIC (package bpf/lb); its maps are reached through package table. They
// are pinned: when this process ends, by whatever means, connections go on and new ones are spread by what was
// last in force, as long as the hosts' reports hold. A successor takes the maps over and changes only what differs.
//
// Who decides what (each engine is pure and has its own package):
//
//	credit    which capacity report of a host counts (invariant D1)
//	steer     with what weight a backend takes part in a VIP's ring: drained, down, full, slowly starting
//	maglev    the ring itself
//	health    checks of backends that no agent speaks for
//	announce  election with peers, ARP and neighbour discovery, BGP
//	flowsync  connections shared with peers
//
// One goroutine, the worker, owns the table's VIPs, backends and rings. Whatever changes – configuration, an operator's
// weight, a report, a check, a step of a slow start – marks a VIP, and the worker brings marked VIPs into force
// together, a VIP at most ten times a second: a storm of updates costs what the rings cost, not what the updates do.
// Reports take the short way: the control channel's reader puts a backend's credit into force itself.
//
// States: OK; Degraded while the interface is missing, an address is not known, a VIP has no backend to send to, or a
// peer is out of step, with the reason. Nothing runs and nothing is held while the section is absent.
package balancer
