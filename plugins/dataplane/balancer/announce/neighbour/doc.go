// Package neighbour answers for addresses on a link that the kernel does not have: ARP (RFC 826) for IPv4, neighbour
// discovery (RFC 4861) for IPv6.
//
// While it is given addresses, a Responder answers requests and solicitations for them with the link's own MAC, and
// Announce tells everyone on the link that they are there: a gratuitous ARP (RFC 5227) and an unsolicited neighbour
// advertisement each. Without addresses it stays silent, as a stand-by must. The addresses are not put on the link:
// what the kernel has, it would answer for on its own, also when the plugin is dead and a peer has taken over.
//
// frames.go is the pure part. A Responder is safe for concurrent use; it costs a socket and a goroutine for each of the
// two protocols while it exists. Requests are answered at most as fast as they come; nothing is queued here.
package neighbour
