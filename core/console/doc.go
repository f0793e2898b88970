// Package console lets the operator who stands before the box type ratchetctl commands on its serial console.
//
// An isolated box has no network: without this, what its verdict says to type next could be typed nowhere. A line is a
// ratchetctl command, with or without that word; its output follows. The console is not asked for credentials: it
// is the place where a box is provisioned (docs/reference/boot-protocol.md B3), so whoever has it is trusted already. A site that does not
// trust its serial port leaves it unconnected.
//
// Lifetime: Serve returns when its context ends or the input does, Keep when its context ends. One command runs at a time, for at most Limit.
// Commands are processes of their own, so that a crash of one is not a crash of process 1.
package console
