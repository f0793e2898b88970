// Package fetch brings one file to a box that has no network: over one interface, which is up for that long only.
//
// Purpose. The recovery console of init writes an image slot from a signed update. Where no USB stick can be plugged
// in, the update comes over the NIC that the image's policy leaves for this (boot.Policy.QuarantineNIC).
//
// Guarantees. The interface gets an address (configured, or leased by DHCP), one route, one HTTP request goes out, and
// when Get returns the interface is down and without the address, whatever happened. Nothing listens. Every wait has a
// limit, and no more than the limit is read. What arrives is not trusted: its reader verifies the signature. So plain
// HTTP is enough, and without a clock that can be believed a certificate would prove nothing.
//
// Concurrency. One Get at a time for an interface.
//
// Source: RFC 2131 (DHCP), RFC 9110 (HTTP), rtnetlink(7).
package fetch
