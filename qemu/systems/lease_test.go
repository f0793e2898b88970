package systems

import (
	"testing"
)

// TestSystemLease: a consumer's connections to a service's address go to producers that the box has leased to its host,
// and end with the lease.
func TestSystemLease(t *testing.T) {
	ownTests(t, "./plugins/dataplane/lease/...")
	ownTests(t, "./plugins/dataplane/overlay/...")
	dataplaneRows.last(t)
	d := sharedDataplane(t)
	d.reaches(t, theService)
	const n = 40
	c := d.client.talk(t, n, theService)
	c.goOn()
	d.killPlugin(t)
	c.goOn()
	seen(t, "booted box: %d connections to leased producers (%s), plugin killed in the guest, 0 broken", n, c.by())
	t.Logf("leases:\n%s", d.m.ctl("dataplane", "leases"))

	// The consumer's agent dies: nobody renews, and the program itself ends what was leased.
	d.client.killAgent(t)
	await(t, stepLimit, "the lease to run out", func() (string, bool) {
		conn, server, err := d.client.ask(theService)
		if err != nil {
			return err.Error(), true
		}
		conn.Close()
		return server, false
	})
	c.end()
	d.client.startAgent()
	d.reaches(t, theService)
	seen(t, "agent killed: the service is closed once the lease has run out, and open again with the agent")
}

// killAgent ends the host's agent as a crash would.
func (h *host) killAgent(t *testing.T) {
	t.Helper()
	must(t, h.agent.Process.Kill())
	_ = h.agent.Wait() // killed is what it is to be
}
