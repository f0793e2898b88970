// Package libvirttest runs libvirt daemons for tests: two of them are two hosts between which VMs move for real.
//
// # Lifetime
//
// A [Daemon] is a libvirtd with directories of its own. It needs no root, no systemd and no dbus, and when the tests are
// root it runs as nobody: as root it would want the machine's directories. It ends with [Daemon.Close], or with the program,
// and its QEMUs with it: see [Keeper], which the program must call first. Nothing is waited for by time: the daemon inherits
// its listening socket, in whose queue whoever connects waits until it is ready.
package libvirttest
