package systems

import (
	"strings"
	"testing"
)

// TestSystemInterfaceGroup: a client's connections to a group's address go to the group's members, through what the box
// says and without the box in their way.
func TestSystemInterfaceGroup(t *testing.T) {
	ownTests(t, "./plugins/dataplane/group/...")
	ownTests(t, "./plugins/dataplane/vni/...")
	d := sharedDataplane(t)
	d.m.ctl("dataplane", "group", "create", "web", theGroup)
	for i, h := range d.backends {
		d.m.ctl("dataplane", "group", "add", "web", h.name, "--vni", []string{"1001", "1002", "1003"}[i], "--host", h.address)
	}
	d.reaches(t, theGroup)
	const n = 40
	c := d.client.talk(t, n, theGroup)
	c.goOn()
	if len(c.servers) < 2 {
		t.Errorf("%d connections went to %s", n, c.by())
	}
	d.killPlugin(t)
	c.goOn()
	seen(t, "booted box: %d connections spread over a group (%s), plugin killed in the guest, 0 broken", n, c.by())

	away := d.backends[0]
	d.m.ctl("dataplane", "group", "drain", "web", away.name)
	await(t, stepLimit, "clients to confirm the drain", func() (string, bool) {
		out := d.m.asks("dataplane", "group", "show", "web")
		return out, strings.Contains(out, "drain")
	})
	later := d.client.talk(t, n, theGroup)
	if got := later.servers[away.name]; got != 0 {
		t.Errorf("%d of %d new connections went to the member that drains", got, n)
	}
	c.goOn()
	later.goOn()
	seen(t, "%s drained: 0 of %d new connections went to it, its %d old ones went on", away.name, n, c.servers[away.name])
	c.end()
	later.end()
	d.failsOver(t)
}
