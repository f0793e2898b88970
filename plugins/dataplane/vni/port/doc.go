// Package port is the kernel's side of an instance's end of a VNI: it plugs ends in, says whether they live, and
// announces who has an address.
//
// A *port* is a link on the host whose other side is in an instance: a veth pair whose peer is in a container's
// namespace, a tap or macvtap that a virtual machine has open, or the representor of a virtual function. Ends are
// plugged in beforehand, with the VNI's MAC on them, also for instances that stand by: a move is then one map
// update (package vni's Fence). Plugging in at the moment of a move is possible, and slow.
//
// Whether an instance lives is known from three witnesses: the link (Links: its carrier, or that it has gone),
// the process (Process), and the instance's own answers (Prober). The first two speak at once.
//
// All functions work in the network namespace of the calling thread. Sources: rtnetlink(7), packet(7),
// pidfd_open(2), RFC 826, RFC 5227 (ARP), RFC 4861 (neighbour discovery).
package port
