package systems

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/plugins/dataplane/api"
	balancerapi "github.com/ratchetos/ratchet/plugins/dataplane/balancer/api"
)

// TestSystemBalancer: real clients reach real servers through a booted box. Its plugin dies, a host runs full, and no
// connection notices.
func TestSystemBalancer(t *testing.T) {
	ownTests(t, "./plugins/dataplane/balancer/...")
	d := sharedDataplane(t)
	d.verified(t)
	d.reaches(t, theVIP)

	const n = 60
	c := d.client.talk(t, n, theVIP)
	c.goOn()
	if len(c.servers) != len(d.backends) {
		t.Errorf("%d connections went to %s", n, c.by())
	}
	d.killPlugin(t)
	c.goOn()
	seen(t, "booted box: %d connections through the VIP (%s), plugin killed in the guest, 0 broken", n, c.by())

	d.resizesTable(t, 131072)
	c.goOn()
	seen(t, "booted box: a larger flow table while %d connections go on, 0 broken", n)

	full := d.backends[1]
	full.hasRoom(filepath.Join(d.dir, full.name+".sock"), 0)
	await(t, stepLimit, "the box to hear that "+full.name+" is full", func() (string, bool) {
		// One that went elsewhere proves nothing: each backend is passed over by most connections anyway.
		for range 24 {
			conn, server, err := d.client.ask(theVIP)
			if err != nil {
				return err.Error(), false
			}
			conn.Close()
			if server == full.name {
				return server, false
			}
		}
		return "", true
	})
	later := d.client.talk(t, n, theVIP)
	if got := later.servers[full.name]; got != 0 {
		t.Errorf("%d of %d new connections went to the full host", got, n)
	}
	c.goOn()
	later.goOn()
	full.hasRoom(filepath.Join(d.dir, full.name+".sock"), 1000)
	seen(t, "%s full: 0 of %d new connections went to it, its %d old ones went on", full.name, n, c.servers[full.name])
}

// verified: the guest's kernel takes every program, those of hosts too.
func (d *dataplane) verified(t *testing.T) {
	t.Helper()
	out, err := d.m.Ctl(within(t, 3*time.Minute), "dataplane", "probe", "-o", "json")
	if len(out) == 0 { // a refusal is an error too, and says in its reply which
		must(t, err)
	}
	r := decode[api.ProbeReply](t, out)
	refused := 0
	for _, p := range r.Programs {
		if p.Problem != "" {
			refused++
			t.Errorf("kernel %s refuses %s of %s: %s", r.Kernel, p.Name, p.Object, p.Problem)
		}
	}
	seen(t, "kernel %s takes %d of %d programs", r.Kernel, len(r.Programs)-refused, len(r.Programs))
}

// reaches waits until connections to an address are answered.
func (d *dataplane) reaches(t *testing.T, address string) {
	t.Helper()
	await(t, stepLimit, "an answer from "+address, func() (string, bool) {
		conn, server, err := d.client.ask(address)
		if err != nil {
			return err.Error(), false
		}
		conn.Close()
		return server, true
	})
}

// resizesTable gives the balancer a table for so many connections.
func (d *dataplane) resizesTable(t *testing.T, flows int) {
	t.Helper()
	config := strings.Replace(d.m.ctl("config", "show"), "      interface: data0\n", fmt.Sprintf("      interface: data0\n      flows: %d\n", flows), 1)
	path := filepath.Join(d.dir, "resized.yaml")
	must(t, os.WriteFile(path, []byte(config), 0o600))
	d.m.ctl("config", "apply", path)
	d.joined(append(d.backends, d.client)...)
	await(t, stepLimit, "the table of another size", func() (string, bool) {
		r := decode[balancerapi.FlowsReply](t, []byte(d.m.ctl("dataplane", "flows", "-o", "json")))
		return fmt.Sprint(r.Capacity), r.Capacity == flows
	})
}

// killPlugin ends the plugin's process in the guest as a crash would and waits until all hosts are back.
func (d *dataplane) killPlugin(t *testing.T) {
	t.Helper()
	d.m.ctl("plugin", "restart", "dataplane", "--kill")
	d.joined(append(d.backends, d.client)...)
}

// ownTests runs the tests that a package has in namespaces; in `make test` they run by themselves.
func ownTests(t *testing.T, pkg string) {
	t.Helper()
	if testing.Short() {
		return
	}
	cmd := command(within(t, 5*time.Minute), nil, "go", "test", "-count=1", pkg)
	cmd.Dir = tree
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("tests of %s: %v\n%s", pkg, err, out)
	}
	seen(t, "namespaces: the tests of %s pass", pkg)
}
