// Package update replaces the image of a running box: one slot is written while the other runs, tried once, and kept
// when it proves healthy.
//
//	update.go    Manager, what it needs, Status
//	stage.go     the bundle on STATE: uploaded piece by piece, or
//	download.go  fetched by the box, resumed where it was cut off
//	apply.go     verify, attempt, write, read back, BootNext
//	settle.go    the running image into the other slot, rollback
//	health.go    engine: when a boot is healthy, when a trial has failed
//	run.go       the loop that steps it, commits, settles and raises V
//
// The order of Apply is its guarantee. Everything that can be said about a bundle – signer, product, flavour, size,
// age, every byte's digest – is said before the attempt is opened, so a bundle that is refused changes nothing, not
// even the counter. The slot that runs is never written. BootNext names the new slot only after its bytes were read
// back from the medium. A power cut anywhere leaves the slot that was healthy first in the order; while the one that
// runs is on trial, that is the other one, and nothing is installed.
//
// Health is core up and all enabled plugins ready for Options.Healthy without a break. It puts the running slot first,
// ends the boot count, and raises V to the lower security version of the two slots. A trial that is not healthy within
// Options.Deadline restarts the box, and firmware returns to the slot before. A box that is not on trial is never
// restarted: one plugin that fails keeps none of the others from serving.
//
// Settling replaces the older image once the new one has run for Options.Settle, counted while it runs (an RTC can be
// set, and time switched off proves nothing); at once for a release that revokes; by hand at any time.
//
// Concurrency. A Manager's methods may be called from any goroutine; one of Apply, Settle and Rollback runs at a time,
// the next gets ErrBusy.
//
// Source: docs/reference/boot-protocol.md B2 and B4.
package update
