// Package ctl is ratchetctl, the command line of an appliance: the same program as an applet
// on the box, where it talks to the local socket, and on a workstation, where it talks to a
// box it has logged in to.
//
// Commands are built by functions on App; there is no package state, and nothing happens
// before RunE. What a plugin adds (volume list, …) is composed by main through the extra
// functions of Main: core knows no feature by name.
//
// Output goes to App.Out as a table, JSON or YAML, messages to App.Err. Exit codes are an
// interface: see the constants Exit….
package ctl
