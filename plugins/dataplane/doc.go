// Package dataplane is the plugin that owns the NICs meant for traffic, and what handles packets on them and on hosts.
//
// # Parts
//
// Each part is a section of the configuration, and does not exist without one:
//
//	links     NICs, addresses, routes                          package link
//	balancer  connections to hosts that have room              balancer, capacity
//	groups    addresses whose traffic clients' hosts spread    group
//	vnis      interfaces that go to another host on a failure  vni
//	leases    producers that consumers' hosts lease            lease
//	agents    the channel to those hosts                       control
//
// Packets are handled by programs in the kernel (bpf/…), and travel between hosts as package overlay says. The hosts' end of
// all of it is package agent, an applet of its own. This package starts the parts, keeps and shows them (parts.go, modules.go);
// they do not know each other.
//
// # Lifetime
//
// Core moves each NIC that the configuration names into the plugin's own network namespace before Start and
// keeps that namespace open, so a restarted plugin finds its links as it left them and traffic flows on while
// no plugin runs. Programs and their maps are pinned in a bpffs that core keeps as well. The plugin brings links, addresses
// and routes to the configured state, keeps them there when the kernel reports a change, and reports counters.
//
// States: Ready when every link and part is as configured, Degraded while a link is missing, the kernel refuses an
// operation or a part does not follow (the reason is in the health line; it is tried again on each change and with
// back-off). Carrier is shown, not demanded: a cable may be pulled.
//
// docs/explanation/dataplane.md says more; rtnetlink(7) is the source for what is done to links.
package dataplane
