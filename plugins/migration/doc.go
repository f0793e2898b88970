// Package migration is the plugin that knows the VMs of the configured hosts, and later moves them.
//
// It keeps one connection to each host through the port of package hypervisor, follows its events, and
// shows hosts and VMs as they are now. A host that cannot be reached is a degraded row with the reason,
// and is tried again with back-off; the plugin stays healthy, because the other hosts do not suffer.
//
// Each host is followed by one goroutine, which owns its connection. What it knows is copied under a lock
// whenever it changes, so calls never wait for a host. A lost connection or event ends in a fresh list:
// what is shown of a host that is up is at most refreshEvery old.
//
// Hypervisors run beside the appliance, not in it. docs/explanation/migration.md says more.
package migration
