// Package network brings up the management network: loopback, one NIC with addresses from DHCP
// or from the configuration, IPv6 by router advertisement, routes, DNS and the host name.
//
// Up returns at once and never makes a boot fail: everything after the choice of the NIC happens
// in one goroutine, which also keeps the lease, follows link changes and puts back what somebody
// else removed. Ready is closed when the first usable address is there; Status says at any time
// what is there and why not. Close ends the goroutine and leaves addresses and routes in place,
// so that core can be replaced without losing its connections; a lease that nobody renews then ends in the kernel.
// Replace goes over to another configuration and takes back what that does not name.
//
// # Parts
//
//   - machine (lease.go) is the pure engine of a DHCPv4 client's times: RFC 2131 section 4.4.5.
//     It is stepped with the time and outcomes, and says what to do next and when.
//   - dhcp.go speaks the protocol with insomniacslk/dhcp; link.go applies state over rtnetlink.
//   - management.go is the loop between them.
//
// # IPv6
//
// The kernel does address configuration from router advertisements (RFC 4862) itself; the
// package turns it on and reports what appears. There is no DHCPv6 client.
package network
