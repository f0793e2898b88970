// Package guestagent builds what a VM's owner installs for migration: the agent as one static program and as a Debian
// package with its systemd unit.
//
// # Guarantees
//
// Everything is a pure function of the source: the same commit gives the same bytes. A program of more than [MaxSize] is an
// error, not a package: it must fit into the smallest guest's initramfs. Nothing of the machine is needed but Go.
//
// Source: deb(5), deb-control(5), Debian Policy 5.6.12 (versions).
package guestagent
