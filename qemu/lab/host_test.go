package lab

import (
	"context"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/agent"
	"github.com/ratchetos/ratchet/plugins/migration/vmhost/client"
)

// TestHost restores a guest on a host, asks it as a manager does, and kills it.
func TestHost(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 25*time.Second)
	defer cancel()
	l := New(t)
	h, err := l.Host(ctx, "alpha", HostOptions{})
	if err != nil {
		t.Fatal(err)
	}
	g, err := l.Guest("vm1")
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Restore(ctx, g); err != nil {
		t.Fatalf("%v; console: %s", err, h.Console("vm1"))
	}
	config, err := h.ClientTLS(ctx)
	if err != nil {
		t.Fatal(err)
	}
	c := client.New(h.Address, config)
	defer c.Close()
	c.SetEpoch(1)
	list, err := c.VMs(ctx)
	if err != nil || len(list) != 1 || list[0].Name != "vm1" {
		t.Errorf("VMs %+v, %v", list, err)
	}
	a := agentOf(c, "vm1")
	defer a.Close()
	if id, err := a.Ping(ctx); err != nil || id != g.BootID {
		t.Errorf("boot ID %q, %v", id, err)
	}
	if got := g.Runners.Running(); !slices.Equal(got, []string{"alpha/vm1"}) {
		t.Errorf("running: %v", got)
	}
	if err := h.Kill("vm1"); err != nil {
		t.Fatal(err)
	}
	if got := g.Runners.Running(); len(got) != 0 {
		t.Errorf("running after it was killed: %v", got)
	}
	if err := h.Restart(); err != nil {
		t.Fatal(err)
	}
	if list, err := c.VMs(ctx); err != nil || len(list) != 0 {
		t.Errorf("VMs after a crash of the host: %+v, %v", list, err)
	}
}

func agentOf(c *client.Client, vm string) *agent.Remote {
	return agent.New(func(ctx context.Context) (net.Conn, error) { return c.Channel(ctx, vm, agentChannel) }, agent.Options{})
}
