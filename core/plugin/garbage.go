package plugin

import "github.com/ratchetos/ratchet/core/memory"

// KeepGarbage has the heap of this plugin's process hold garbage of so many percent of what lives in it, and of so many
// bytes at least, before it is collected; the process still collects early while it is idle. A feature that is in a hurry
// calls it once, when it starts.
func KeepGarbage(percent int, least uint64) { memory.KeepRoom(percent, least) }
