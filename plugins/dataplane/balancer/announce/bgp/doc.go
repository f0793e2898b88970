// Package bgp announces addresses to routers: a speaker of BGP-4 that only sends routes.
//
// An Announcer opens one session to each neighbour (RFC 4271; it does not listen), with capabilities for four-octet AS
// numbers (RFC 6793), IPv4 and IPv6 unicast (RFC 4760), route refresh (RFC 2918) and graceful restart (RFC 4724).
// Each address is announced as a host route with this balancer as next hop. What neighbours announce is not read.
//
// Graceful restart is what makes a killed plugin harmless: the program on the NIC goes on forwarding, so the OPEN says
// that forwarding state is preserved, neighbours keep the routes while the session is down, and drop those that were
// not announced again once the end-of-RIB marker follows. Close therefore just closes the connections;
// Announce(nil) is for a balancer that is to get no more traffic.
//
// Messages are encoded and decoded by GoBGP's packet package. A lost session is opened again with back-off from half a
// second to half a minute. An Announcer is safe for concurrent use; it costs two goroutines a neighbour.
package bgp
