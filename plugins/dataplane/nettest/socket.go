package nettest

import "net"

// Dial connects from inside the namespace; address is numeric. The connection is closed when the test ends.
func (n *Namespace) Dial(network, address string) net.Conn {
	n.t.Helper()
	var c net.Conn
	n.Run(func() {
		var err error
		if c, err = net.Dial(network, address); err != nil {
			n.t.Fatal(err)
		}
	})
	n.t.Cleanup(func() { c.Close() })
	return c
}

// Listen opens a stream listener inside the namespace. It is closed when the test ends.
func (n *Namespace) Listen(network, address string) net.Listener {
	n.t.Helper()
	var l net.Listener
	n.Run(func() {
		var err error
		if l, err = net.Listen(network, address); err != nil {
			n.t.Fatal(err)
		}
	})
	n.t.Cleanup(func() { l.Close() })
	return l
}

// ListenPacket opens a datagram socket inside the namespace. It is closed when the test ends.
func (n *Namespace) ListenPacket(network, address string) net.PacketConn {
	n.t.Helper()
	var c net.PacketConn
	n.Run(func() {
		var err error
		if c, err = net.ListenPacket(network, address); err != nil {
			n.t.Fatal(err)
		}
	})
	n.t.Cleanup(func() { c.Close() })
	return c
}
