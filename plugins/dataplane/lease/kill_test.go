package lease

import (
	"flag"
	"fmt"
	"net"
	"testing"
	"time"
)

var kills = flag.Int("kills", 3, "processes that TestKilled ends")

// TestKilled ends processes of all three sides in turn – the consumer's agent, a box, a producer's agent – and asks on
// every open connection after each: none may break or move. make soak SYSTEM=lease ends many.
func TestKilled(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2, 8*time.Second)
	producers := []*host{w.produce("p1", 4), w.produce("p2", 4)}
	c := w.host("c1")
	config := AgentConfig{Consume: []ConsumeConfig{{Service: "web", Leases: 2}}}
	c.run(config)
	c.consumes(2)
	var conns []net.Conn
	var at []string
	for i := range 20 {
		conn, producer := c.ask([]string{service4, service6}[i%2])
		conns, at = append(conns, conn), append(at, producer)
	}
	lost := 0
	for i := range *kills {
		what := ""
		switch i % 3 {
		case 0:
			what = "consumer's agent"
			c.stop()
			c.run(config)
		case 1:
			what = "box"
			b := w.boxes[i/3%2]
			b.down()
			b.up()
		case 2:
			p := producers[i/3%2]
			what = "agent of " + p.name
			p.stop()
			p.run(AgentConfig{Produce: []ProduceConfig{{Service: "web", Name: p.name, Quota: 4, Underlay: p.at}}})
		}
		for k, conn := range conns {
			if now, err := answer(conn); err != nil || now != at[k] {
				t.Errorf("after the end of the %s: connection %d to %s answered by %q: %v", what, k, at[k], now, err)
				lost++
				break
			}
		}
		until(t, fmt.Sprintf("leases are renewed after the end of the %s", what), func() bool {
			s := c.status().Consumed
			return len(s) == 2 && min(s[0].Left, s[1].Left) > w.ttl/2
		})
	}
	t.Logf("soak lease.killed %d tried, %d lost", *kills, lost)
}
