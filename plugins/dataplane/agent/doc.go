// Package agent is the host's end of the dataplane: the applet `ratchet agent`.
//
// A host runs instances, backends or clients. Its agent joins the boxes named in its file (package control) and does there
// what the file asks for: report how many more connections each component can take (package capacity), follow the
// members of interface groups (package group), beat for the VNIs attached here and fence them (package vni), keep leases
// on producers (package lease).
//
// The agent decides little: it carries what the boxes say into programs and maps, which are pinned and work on without
// it. What must not go on without it, an attachment or a lease, ends in the program itself when it is not renewed. So the
// agent may be restarted at any time, and when it is killed the traffic that may flow still flows.
package agent
