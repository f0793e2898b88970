// Package migration is the plugin that knows the VMs of the configured hosts, and moves them.
//
// # Parts
//
//	Feature    the plugin: configuration, lifetime, what is shown
//	follower   one host: keeps its connection, lists its VMs, and lends the connection to who moves them
//	mover      there while hosts can be moved between: runner, queue, schedule, templates, credentials
//	orders     what was ordered: from the queue over a slot to the runner
//	volumes    the gateway's volumes, handed over through core
//
// What decides is in packages of its own, which are pure: plan, template, queue, schedule, forecast. What moves a VM is in
// run and step, over the ports of package hypervisor.
//
// # Lifetime
//
// A host that cannot be reached is a degraded row with the reason, and is tried again with back-off; the plugin stays healthy,
// because the other hosts do not suffer. Orders are in core's store and moves in a journal, so both outlive the process: the
// next one undoes or finishes what it finds and goes on with what waits. Without hosts to move between there is no mover, and
// without links no schedule: neither costs anything then.
//
// # Concurrency
//
// Each host is followed by one goroutine, which owns its connection. What it knows is copied under a lock whenever it changes,
// so calls never wait for a host. Locks are taken in the order Feature.mu, orders.mu, and those of runner and schedule last; nobody
// who holds orders.mu asks the Feature for anything.
//
// Hypervisors run beside the appliance, not in it. docs/explanation/migration.md says more.
package migration
