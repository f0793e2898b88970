package capacity

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/plugins/dataplane/capacity/report"
	"github.com/ratchetos/ratchet/plugins/dataplane/nettest"
)

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(10 * time.Second); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

// The free places of real accept queues, of both families, as connections fill and accepting frees them.
func TestListenQueue(t *testing.T) {
	ns := nettest.New(t)
	const backlog = 5
	listeners := map[string]int{}
	ns.Run(func() {
		for _, s := range []struct {
			family int
			at     unix.Sockaddr
			name   string
		}{
			{unix.AF_INET, &unix.SockaddrInet4{Port: 8080, Addr: [4]byte{127, 0, 0, 1}}, "v4"},
			{unix.AF_INET6, &unix.SockaddrInet6{Port: 8080, Addr: [16]byte{15: 1}}, "v6"},
		} {
			fd, err := unix.Socket(s.family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { unix.Close(fd) })
			if err := unix.Bind(fd, s.at); err != nil {
				t.Fatal(err)
			}
			if err := unix.Listen(fd, backlog); err != nil {
				t.Fatal(err)
			}
			listeners[s.name] = fd
		}
	})
	open := func(sockets ...string) *listenQueue {
		var all []netip.AddrPort
		for _, s := range sockets {
			a, err := parseListen(s)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, a)
		}
		var q *listenQueue
		var err error
		ns.Run(func() { q, err = openListenQueue(all) })
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { q.close() })
		return q
	}
	both, one, none := open("8080"), open("127.0.0.1:8080"), open("8080", "8081")
	limit := func(q *listenQueue) uint32 {
		m, err := q.measure(0)
		if err != nil {
			t.Fatal(err)
		}
		return m.Limit
	}
	if got := limit(both); got != 2*backlog {
		t.Errorf("two empty queues have room for %d, want %d", got, 2*backlog)
	}
	for range 3 {
		ns.Dial("tcp", "127.0.0.1:8080")
	}
	until(t, "three wait", func() bool { return limit(one) == backlog-3 })
	if got := limit(both); got != 2*backlog-3 {
		t.Errorf("with three waiting there is room for %d", got)
	}
	fd, _, err := unix.Accept(listeners["v4"])
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	until(t, "one is accepted", func() bool { return limit(one) == backlog-2 })
	if _, err := none.measure(0); err == nil || !strings.Contains(err.Error(), "8081") {
		t.Errorf("nobody listens on one of the ports, and it is said: %v", err)
	}
}

// A question whose answer was not waited for, as by a process that was stopped meanwhile, does not spoil all later ones.
func TestListenQueueRecovers(t *testing.T) {
	ns := nettest.New(t)
	l := ns.Listen("tcp", "127.0.0.1:0")
	defer l.Close()
	ns.Run(func() {
		q, err := openListenQueue([]netip.AddrPort{l.Addr().(*net.TCPAddr).AddrPort()})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { q.close() }()
		if _, err := q.conn.Send(netlink.Message{
			Header: netlink.Header{Type: sockDiagByFamily, Flags: netlink.Request | netlink.Dump}, Data: diagRequest(unix.AF_INET),
		}); err != nil {
			t.Fatal(err)
		}
		q.measure(0) // may fail
		for range 3 {
			if m, err := q.measure(0); err != nil || m.Limit == 0 {
				t.Errorf("%+v, %v", m, err)
			}
		}
	})
}

func TestCGroup(t *testing.T) {
	for _, c := range []struct {
		name  string
		files map[string]string
		c     CGroupConfig
		want  uint32
		fails bool
	}{
		{"memory", map[string]string{"memory.current": "700\n", "memory.max": "1000\n", "memory.high": "max\n"}, CGroupConfig{Memory: 100}, 3, false},
		{"the lower limit counts", map[string]string{"memory.current": "700\n", "memory.max": "2000\n", "memory.high": "900\n"}, CGroupConfig{Memory: 100}, 2, false},
		{"above it", map[string]string{"memory.current": "999", "memory.max": "2000", "memory.high": "900"}, CGroupConfig{Memory: 100}, 0, false},
		{"file cache gives way", map[string]string{
			"memory.current": "990\n", "memory.max": "1000\n", "memory.high": "max\n",
			"memory.stat": "anon 200\nfile 790\ninactive_anon 5\nactive_file 100\ninactive_file 690\n",
		}, CGroupConfig{Memory: 100}, 7, false},
		{"more cache than there was a moment ago", map[string]string{
			"memory.current": "500", "memory.max": "1000", "memory.high": "max", "memory.stat": "inactive_file 600\n",
		}, CGroupConfig{Memory: 100}, 10, false},
		{"nonsense of cache", map[string]string{
			"memory.current": "500", "memory.max": "1000", "memory.high": "max", "memory.stat": "inactive_file much\n",
		}, CGroupConfig{Memory: 100}, 0, true},
		{"tasks", map[string]string{"pids.current": "90", "pids.max": "100"}, CGroupConfig{Tasks: 3}, 3, false},
		{"the scarcer counts", map[string]string{"memory.current": "0", "memory.max": "1000", "memory.high": "max", "pids.current": "90", "pids.max": "100"}, CGroupConfig{Memory: 10, Tasks: 1}, 10, false},
		{"no limit", map[string]string{"pids.current": "90", "pids.max": "max"}, CGroupConfig{Tasks: 1}, 1<<32 - 1, false},
		{"no cgroup v2", nil, CGroupConfig{Memory: 1}, 0, true},
		{"nonsense", map[string]string{"pids.current": "many", "pids.max": "100"}, CGroupConfig{Tasks: 1}, 0, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.c.Path = t.TempDir()
			for name, text := range c.files {
				if err := os.WriteFile(filepath.Join(c.c.Path, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			m, err := cgroup{c.c}.measure(0)
			if m.Limit != c.want || (err != nil) != c.fails {
				t.Errorf("%d, %v; want %d", m.Limit, err, c.want)
			}
		})
	}
}

func TestWords(t *testing.T) {
	for _, c := range []struct {
		word            string
		limit           uint32
		accepted        uint64
		counted, refuse bool
	}{
		{"LIMIT=5\nACCEPTED=12\n", 5, 12, true, false},
		{"LIMIT=0", 0, 0, false, false},
		{"ACCEPTED=1\nLIMIT=2\nLATER=x\n", 2, 1, true, false},
		{"ACCEPTED=1\n", 0, 0, false, true},
		{"LIMIT=-1\n", 0, 0, false, true},
		{"LIMIT=4294967296\n", 0, 0, false, true},
		{"LIMIT", 0, 0, false, true},
		{"", 0, 0, false, true},
	} {
		m, err := parseWord(c.word)
		if (err != nil) != c.refuse || err == nil && (m.Limit != c.limit || m.Accepted != c.accepted || m.Counted != c.counted) {
			t.Errorf("%q is read as %+v, %v", c.word, m, err)
		}
	}
}

func FuzzWord(f *testing.F) {
	f.Add("LIMIT=5\nACCEPTED=12\n")
	f.Add("=\n\x00LIMIT=")
	f.Fuzz(func(t *testing.T, s string) {
		if m, err := parseWord(s); err == nil && !strings.Contains(s, "LIMIT=") {
			t.Errorf("%q is read as %+v", s, m)
		}
	})
}

func FuzzListener(f *testing.F) {
	f.Add(make([]byte, replySize))
	f.Fuzz(func(t *testing.T, b []byte) {
		if l, err := parseListener(b); err == nil && !l.at.Addr().IsValid() {
			t.Errorf("%x is read as %+v", b, l)
		}
	})
}

// fakeBox is a box that answers as one does, without a channel: what is tested is the reporter's pace and its words.
type fakeBox struct {
	mu          sync.Mutex
	incarnation uint64
	dispatched  uint64
	last        report.Component
	reports     int
	silent      bool
	hint        func([]byte)
}

func (b *fakeBox) HandleDatagram(_ uint8, h func([]byte)) { b.hint = h }
func (b *fakeBox) OnJoin(func())                          {}
func (b *fakeBox) Box() string                            { return "fake" }

func (b *fakeBox) Exchange(ctx context.Context, _ uint8, payload []byte) ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	r, err := report.Parse(payload)
	if err != nil || b.silent {
		return nil, fmt.Errorf("silent, or %w", err)
	}
	b.reports++
	reply := report.Reply{Incarnation: b.incarnation, Sequence: r.Sequence, TTL: 10 * time.Second}
	for _, c := range r.Components {
		d := report.Dispatched{Name: c.Name, Dispatched: b.dispatched}
		if c.Known && r.Balancer != b.incarnation {
			d.Status = report.Rebase
		} else {
			b.last = c
		}
		reply.Components = append(reply.Components, d)
	}
	return reply.Append(nil)
}

func (b *fakeBox) is(f func(*fakeBox) bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return f(b)
}

// A reporter begins by claiming nothing, speaks at once when there is news, a box asks or has begun anew, keeps quiet
// otherwise, and reports none when its application falls silent.
func TestReporter(t *testing.T) {
	box := &fakeBox{incarnation: 7, dispatched: 100}
	socket := filepath.Join(t.TempDir(), "app")
	r, err := newReporter(nil, []Client{box}, Config{Interval: plugin.Duration(5 * time.Millisecond), Components: []ComponentConfig{
		{Name: "web", Max: 50, Handshake: plugin.Duration(20 * time.Millisecond), Application: &ApplicationConfig{Socket: socket, TTL: plugin.Duration(time.Second)}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); r.Run(ctx) }()
	defer func() { cancel(); <-done }()
	app, err := net.Dial("unixgram", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer app.Close()
	granted := func(limit uint32, accepted uint64) func() bool {
		return func() bool {
			return box.is(func(b *fakeBox) bool { return b.last.Known && b.last.Limit == limit && b.last.Accepted == accepted })
		}
	}
	fmt.Fprint(app, "LIMIT=5\nACCEPTED=0\n")
	until(t, "five more than it knows of", granted(5, 100))
	fmt.Fprint(app, "LIMIT=500\nACCEPTED=0\n")
	until(t, "no more than max", granted(50, 100))
	box.is(func(b *fakeBox) bool { b.incarnation, b.dispatched = 8, 0; return true })
	box.hint(nil)
	until(t, "the box has begun anew", granted(50, 0))
	until(t, "the application has fallen silent", granted(0, 0))
	if s := r.Components()[0]; s.Problem == "" {
		t.Error("it is not said why there is no capacity")
	}
	st, err := os.Stat(socket)
	if err != nil || st.Mode().Perm() != defaultMode {
		t.Errorf("the socket is %v, %v", st, err)
	}
}

func TestConfigCheck(t *testing.T) {
	c := Config{Components: []ComponentConfig{
		{Name: "a", Max: 1},
		{Name: "a", Listen: []string{"80", "x", "0", "1.2.3.4:0", "[::1]:8080"}},
		{Name: "nothing"},
		{Name: strings.Repeat("n", 64), Max: 1},
		{Name: "g", CGroup: &CGroupConfig{Path: "relative"}},
		{Name: "s", Application: &ApplicationConfig{Socket: "relative", Mode: "rw"}},
	}}
	var got []string
	c.Check("capacity", func(path, format string, args ...any) { got = append(got, path+": "+fmt.Sprintf(format, args...)) })
	want := []string{
		"components[1].name", "components[1].listen[1]", "components[1].listen[2]", "components[1].listen[3]", "components[2]:", "components[3].name",
		"components[4].cgroup.path", "components[4].cgroup:", "components[5].application.socket", "components[5].application.mode",
	}
	for _, w := range want {
		if !slices.ContainsFunc(got, func(g string) bool { return strings.HasPrefix(g, "capacity."+w) }) {
			t.Errorf("nothing is said about %s", w)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d errors, want %d:\n%s", len(got), len(want), strings.Join(got, "\n"))
	}
}
