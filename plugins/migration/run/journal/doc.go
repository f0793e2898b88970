// Package journal is what the manager remembers of its moves over a crash: one file, to which records are appended.
//
// # Format
//
// A line of text each: the CRC-32C of the rest in eight hexadecimal digits, a space, a JSON object, a newline. The first
// line is the [Header]. Its version says how to read the lines, its features what a reader must know of: a journal with
// either unknown is refused, untouched, and the message says so (invariant X1).
//
// # Guarantees
//
// Append returns when the record survives a power cut. If it fails, the record is taken back, also from the disk; if that
// fails too, nobody can say whether it is there, and the journal takes no more ([ErrUncertain]): the next [Open] decides
// what happened. So a caller may act against a failed record on any error but that one.
//
// Only the last line can be torn by a crash, since each is synced before the next is begun, and then it has no newline:
// Open cuts it off. Any other line that cannot be read is damage, and Open fails: to leave out a record could mean to run a
// VM twice.
//
// The file is bounded: past [Options.Large] its owner rewrites it with what it still needs (Rewrite), which replaces it by
// rename; past eight times that, Append refuses.
//
// # Concurrency
//
// A Journal's methods may be called from many goroutines. One process opens it at a time.
package journal
