package systems

import (
	"bufio"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	// talkEvery is the pause between two questions of one connection.
	talkEvery = 50 * time.Millisecond
	// patience is how long one answer may take on a busy host before the connection counts as broken.
	patience = 20 * time.Second
)

// conversations are TCP connections that are used without a break: each asks again and again, and the same server must
// answer.
type conversations struct {
	t    testing.TB
	stop chan struct{}
	work sync.WaitGroup

	mu      sync.Mutex
	servers map[string]int // connections by who answers them
	broken  []string
	asked   atomic.Int64
}

// talk opens n connections from the host, one after the other.
func (h *host) talk(t testing.TB, n int, to string) *conversations {
	t.Helper()
	c := &conversations{t: t, stop: make(chan struct{}), servers: map[string]int{}}
	t.Cleanup(c.end)
	for range n {
		conn, server, err := h.ask(to)
		if err != nil {
			t.Fatalf("connect to %s: %v", to, err)
		}
		c.servers[server]++
		c.work.Go(func() { c.keep(conn, server) })
	}
	return c
}

// ask opens a connection and asks once.
func (h *host) ask(to string) (conn net.Conn, server string, err error) {
	h.Run(func() { conn, err = net.DialTimeout("tcp", net.JoinHostPort(to, "80"), 3*time.Second) })
	if err != nil {
		return nil, "", err
	}
	if server, err = say(conn, "0"); err != nil {
		conn.Close()
		return nil, "", err
	}
	return conn, server, nil
}

// say asks and returns who answers.
func say(conn net.Conn, what string) (server string, err error) {
	conn.SetDeadline(time.Now().Add(patience))
	if _, err := fmt.Fprintln(conn, what); err != nil {
		return "", err
	}
	line, err := bufio.NewReader(conn).ReadString('\n') // one answer is all there is to read
	if err != nil {
		return "", err
	}
	server, said, _ := strings.Cut(strings.TrimSpace(line), " ")
	if said != what {
		return "", fmt.Errorf("asked %q, answered %q", what, line)
	}
	return server, nil
}

func (c *conversations) keep(conn net.Conn, server string) {
	defer conn.Close()
	tick := time.NewTicker(talkEvery)
	defer tick.Stop()
	for n := 1; ; n++ {
		select {
		case <-c.stop:
			return
		case <-tick.C:
		}
		now, err := say(conn, fmt.Sprint(n))
		c.asked.Add(1)
		switch {
		case err != nil:
			c.breaks("%s: %v", server, err)
			return
		case now != server:
			c.breaks("%s: moved to %s", server, now)
			return
		}
	}
}

func (c *conversations) breaks(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.broken = append(c.broken, fmt.Sprintf(format, args...))
}

// goOn waits until every connection has asked some more, and fails if one is broken.
func (c *conversations) goOn() {
	c.t.Helper()
	n := int64(0)
	for _, k := range c.servers {
		n += int64(k)
	}
	target := c.asked.Load() + 3*n
	await(c.t, stepLimit, "connections to go on", func() (string, bool) {
		c.mu.Lock()
		defer c.mu.Unlock()
		return strings.Join(c.broken, "; "), len(c.broken) > 0 || c.asked.Load() >= target
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.broken) > 0 {
		c.t.Fatalf("%d of %d connections broke: %s", len(c.broken), n, strings.Join(c.broken, "; "))
	}
}

// end closes all.
func (c *conversations) end() {
	select {
	case <-c.stop:
	default:
		close(c.stop)
	}
	c.work.Wait()
}

// by says who answers how many.
func (c *conversations) by() string {
	var out []string
	for _, s := range slices.Sorted(maps.Keys(c.servers)) {
		out = append(out, fmt.Sprintf("%s: %d", s, c.servers[s]))
	}
	return strings.Join(out, ", ")
}
