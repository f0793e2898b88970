// Package agent is the manager's side of the agent that runs inside a guest: a [Client] over the virtio-serial port that
// the hypervisor offers as a connection (hypervisor.Port.Channel).
//
// # Lifetime and concurrency
//
// A [Remote] dials when it is first asked, and again whenever the connection breaks, which it does with every move of the
// VM: a request that was not answered is sent again under its ID until its context ends. The guest does each order once
// (package wire). Methods may be called from many goroutines. Without requests it has no goroutine and no connection is
// kept open longer than Options.Idle.
//
// # Guarantees
//
// An agent is not trusted: lines are bounded, answers to what was not asked are dropped, and what a guest reports is
// checked by the plan against what the hypervisor says. Nothing here waits longer than its context.
//
// Package wire is the language, package guest the agent itself.
package agent
