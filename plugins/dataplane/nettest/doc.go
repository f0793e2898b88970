// Package nettest gives tests network namespaces and cables between them.
//
//	client, server := nettest.New(t), nettest.New(t)
//	nettest.Veth(t, nettest.End{On: client, Name: "c0", Addresses: []string{"10.0.0.1/24"}},
//		nettest.End{On: server, Name: "s0", Addresses: []string{"10.0.0.2/24"}})
//	l := server.Listen("tcp", "10.0.0.2:80")
//	c := client.Dial("tcp", "10.0.0.2:80")
//
// Namespaces are anonymous: a descriptor holds each, nothing of them is in /run/netns, and whatever ends the
// process – a panic, a kill – frees them with the links in them. t.Cleanup does so at the end of a test.
//
// A namespace is a property of a thread. Run takes the calling goroutine there and back, so t.Fatal and panics
// work inside it; sockets stay in the namespace in which they were made, and Dial, Listen and ListenPacket make
// them there. Goroutines that f starts are outside: use Go for those. All methods may be called from any
// goroutine that may call t.Fatal. Tests that use this package need root.
//
// For fail-over there are Stream, numbered datagrams at 1 kHz, Receiver, which knows which of them came and when, and
// Instance, a process that keeps a namespace as a container's does and can be killed.
package nettest
