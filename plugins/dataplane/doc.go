// Package dataplane is the plugin that owns the NICs meant for traffic.
//
// Core moves each NIC that the configuration names into the plugin's own network namespace before Start and
// keeps that namespace open, so a restarted plugin finds its links as it left them and traffic flows on while
// no plugin runs. The plugin brings links, addresses and routes to the configured state, keeps them there when
// the kernel reports a change, and reports counters.
//
// States: Ready when every link is as configured, Degraded while a link is missing or the kernel refuses an
// operation (the reason is in the health line; it is tried again on each change and with back-off). Carrier is
// shown, not demanded: a cable may be pulled.
//
// The engine is package link: it compares a desired with an observed state and says which operations are
// missing. rtnetlink(7) is the source for what each of them does.
package dataplane
