// Package vni attaches virtual network interfaces (VNIs) to instances on hosts, and to another instance when one
// fails.
//
// A VNI has an identifier (its VXLAN id), a MAC, addresses and candidates: instances on hosts that have an end of it
// plugged in. One candidate holds it. Parts:
//
//   - Part is the control plane on a box: it leads package failover's Engine, keeps its records, and tells the
//     interface groups where VNIs are.
//   - Agent is on each host: it beats every 50 ms to every box, carries out assignments, watches the instances, and
//     renews the lease.
//   - Fence is the host's packet programs (bpf/fence): an instance gets and sends packets of a VNI while it holds it
//     and the host's lease runs. A switch to another instance is one map update.
//   - Package port plugs ends in, watches and announces.
//
// # Guarantees (invariant D4)
//
// No two instances hold a VNI at the same time, whatever hosts, boxes, agents and the network between them do: a
// host that is not heard stops by itself, by its kernel's clock, before the VNI is attached elsewhere. An overlay
// packet of an older attachment is dropped where it arrives. A killed instance is replaced within some 50 ms, a
// silent host's VNIs within 170 ms (lease and fence run at the same time).
//
// # Limits
//
// While no box leads, for longer than a lease, VNIs with packets stop: nobody could tell whether they have been
// given away. A box's restart therefore interrupts their traffic until its hosts have joined again; a second control
// plane does not shorten that, but ends a longer one. With one box all VNIs depend on it.
//
// # Lifetime
//
// Part and Agent work from Start or Run until Stop or the end of ctx; maps, programs and links of the fence are
// pinned and go on. Part's methods may be called from any goroutine; an Agent has one goroutine that owns its state
// and hears of everything by messages. Clocks are CLOCK_BOOTTIME.
package vni
