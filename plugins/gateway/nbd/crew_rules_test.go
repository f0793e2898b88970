package nbd

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestCommitting: w is a write, f a FLUSH, u a write with FUA, r a read, a capital one comes before the reply to another.
func TestCommitting(t *testing.T) {
	pairs, fua := strings.Repeat("wf", crewAfter/2), strings.Repeat("u", crewAfter)
	for history, want := range map[string]bool{
		"":                  false,
		pairs[2:]:           false,
		pairs:               true,
		pairs + "w":         false, // a FLUSH has to come first
		pairs + "wf":        true,
		pairs + "ww":        false,
		pairs + "wwf":       false,
		pairs + "ff":        false,
		pairs + "r":         false,
		pairs + "rwf":       false,
		pairs + "r" + pairs: true,
		pairs + "W":         false,
		pairs + "wF":        false,
		fua:                 true,
		fua + "wf" + "u":    true,
		fua + "wu":          false,
		pairs[2:] + "u":     false,
		pairs[2:] + "uu":    true,
	} {
		l := lone{asked: noSocket{}}
		for _, e := range strings.Split(history, "") {
			req := request{n: 1, cmd: map[string]Command{"w": CmdWrite, "u": CmdWrite, "f": CmdFlush}[strings.ToLower(e)]}
			if e == "u" {
				req.flags = cmdFUA
			}
			if e != "" {
				l.arrived(req, e != strings.ToLower(e))
			}
		}
		if l.isCommitting() != want {
			t.Errorf("%s: committing %v, want %v", history, l.isCommitting(), want)
		}
	}
}

// TestStir tells a crew of a member that waits for a FLUSH.
func TestStir(t *testing.T) {
	for name, c := range map[string]struct {
		sent   string
		events uint32
		hasty  bool
	}{
		"read already":   {"", unix.EPOLLIN, false},
		"a request":      {"x", unix.EPOLLIN, true},
		"the end":        {"", unix.EPOLLIN | unix.EPOLLRDHUP, true},
		"a broken line":  {"", unix.EPOLLERR, true},
		"both, the last": {"x", unix.EPOLLIN | unix.EPOLLRDHUP, true},
	} {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := unix.Write(fds[1], []byte(c.sent)); err != nil {
			t.Fatal(err)
		}
		m := &member{fd: fds[0], waits: true}
		new(crew).stir(m, c.events)
		if m.hasty != c.hasty {
			t.Errorf("%s: hasty %v, want %v", name, m.hasty, c.hasty)
		}
		for _, fd := range fds {
			unix.Close(fd)
		}
	}
}
