// Package overlay is how packets travel between hosts: VXLAN (RFC 7348) with the sender's epoch in each packet.
//
// # The packet
//
//	outer Ethernet │ outer IPv4 or IPv6 │ UDP to 4789 │ VXLAN │ inner Ethernet │ the packet, unchanged
//
//	VXLAN   0                   1                   2                   3
//	       |G|. . .|I|. . .|. . . . . . . .|            epoch              |
//	       |                   VNI                         |. . . . . . . .|
//
// The epoch is the 16-bit Group Policy ID of the VXLAN-GBP extension (draft-smith-vxlan-group-policy), G set. It is
// not in the reserved bits: a kernel drops a packet in which any of them is set (vxlan_rcv; until Linux 6.14 without
// a way to allow it), while it parses the Group Policy ID, hands it to programs, and tshark names it. Epoch 0 means
// none: the packet is then plain VXLAN with G clear, as any other implementation sends it, and the device here takes
// both. A device without gbp drops what carries an epoch, so both ends are made by Ensure.
//
// Epochs are compared as serial numbers (RFC 1982, Newer): of two of them less than 32,768 apart the later one is
// known. 0 is skipped when counting up (Next).
//
// The inner destination is MAC, the same on every host, when the packet is for the host's own stack; else it is the
// instance's. The inner source must be another address: the receiving device drops what seems to come from itself. The
// outer source port comes from the inner flow's hash, so that paths spread. The outer UDP checksum is
// zero with IPv4 and, as RFC 6935 allows for tunnels, with IPv6.
//
// # Sending
//
// An address that is reached through the overlay is routed to the device (Device.Route), whose MTU leaves room for
// the outer headers, so that local senders never exceed the path. A program on the device's egress, or on the ingress
// of an instance's link, chooses the host, writes the headers itself (bpf_skb_adjust_room with the encapsulation's
// flags, so that large TCP packets and checksums to be computed stay so) and hands the packet to the link towards that
// host by bpf_redirect_neigh. PathTo asks the kernel which link and source address that is. What no program takes the
// device drops: it is external, and without a program it knows no host.
//
// # Receiving
//
// Ensure makes one kernel device for all VNIs (external, gbp, outer IPv4 and IPv6). Gate is the program on its ingress: it
// knows the lowest epoch that is accepted for each VNI and whether packets go to the host's stack or straight to an
// instance's link. What is older is dropped and counted, which is the receiver's half of invariant D4; a VNI that
// the gate does not know passes to the host's stack with any epoch. Interface groups, attachments and leases share
// device and gate; VNIs must differ between them.
//
// The gate is pinned and works on when the process that set it ends. Everything here is called in the network
// namespace in which the device is to be. Methods may be called from any goroutine.
package overlay
