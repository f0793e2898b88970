// Package recovery is the console that init offers before the cap, while this image can still write E.
//
// Purpose. On a box that is isolated, that keeps failing to start, or whose operator asked for it, init
// talks to whoever is at the serial console: what is wrong, what can be done about it, and the commands
// that do it. There is no network and no filesystem here.
//
// States. The Console waits for a command, for the recovery key that a command needs, or for the word
// that confirms what cannot be undone. A line goes in, a Reply comes out; nothing happens in between.
// The recovery key is never part of a Reply, and the adapter switches the echo off while one is typed.
//
// Authority. validate proves, so that it needs none but being there: what is not known good stays
// isolated. reflash takes only what the bundle key signed. request carries its own signature. recover,
// accept and factory-reset take or destroy what nothing proves; they ask for the recovery key.
//
// Guarantees. Every line is answered. Wrong keys cost time and end after MaxTries until the next boot.
// The commands that are offered are those that can help, the best first.
//
// Concurrency. One goroutine. The Box does the work; package boot implements it.
//
// Source: docs/reference/boot-protocol.md "Recovery"; docs/explanation/recovery.md.
package recovery
