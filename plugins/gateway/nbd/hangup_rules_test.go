package nbd

import (
	"net"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// TestHangUpRules: a client that has hung up is gone, unless the last it sent, wherever that is now, says that it
// disconnects and wants its replies.
func TestHangUpRules(t *testing.T) {
	header := func(c Command) string {
		b := be.AppendUint16(be.AppendUint16(be.AppendUint32(nil, magicRequest), 0), uint16(c))
		return string(append(b, make([]byte, requestLen-len(b))...))
	}
	write, disc := header(CmdWrite)+"data", header(CmdDisc)
	for name, tc := range map[string]struct {
		buffered, spilt, unread string
		stays, gone             bool
	}{
		"alive":                       {unread: write, stays: true},
		"nothing":                     {gone: true},
		"a write":                     {buffered: write, unread: write, gone: true},
		"less than a request":         {buffered: disc[1:], gone: true},
		"disconnect":                  {unread: write + disc},
		"disconnect that was read":    {buffered: write + disc},
		"disconnect that is read":     {buffered: write + disc[:7], unread: disc[7:]},
		"disconnect that was spilt":   {buffered: write, spilt: write + disc},
		"disconnect in three places":  {buffered: disc[:7], spilt: disc[7:9], unread: disc[9:]},
		"a write that was spilt":      {buffered: disc, spilt: write, gone: true},
		"something after disconnect":  {buffered: disc, unread: write, gone: true},
		"disconnect of an older time": {buffered: disc + write, gone: true},
	} {
		t.Run(name, func(t *testing.T) {
			client, server := sockets(t)
			if _, err := client.WriteString(tc.unread); err != nil {
				t.Fatal(err)
			}
			if !tc.stays {
				client.Close()
			}
			s := &session{nc: new(net.UnixConn), rd: &reader{buf: []byte(tc.buffered), w: len(tc.buffered)}}
			s.rd.spill = spill{pieces: []*buffer{{b: []byte(tc.spilt)}}, n: len(tc.spilt)}
			if gone := s.left(server.Fd()); gone != tc.gone {
				t.Errorf("gone %v", gone)
			}
		})
	}
}

// sockets are two that are connected, without Go's poller.
func sockets(t *testing.T) (client, server *os.File) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	client, server = os.NewFile(uintptr(pair[0]), "client"), os.NewFile(uintptr(pair[1]), "server")
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}
