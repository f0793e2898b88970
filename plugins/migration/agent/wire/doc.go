// Package wire is the language between the manager and the agent in a guest: one JSON object a line, over a virtio-serial
// port.
//
// # Requests
//
// The manager asks, the agent answers; the agent never speaks first. An ID names an order, not a message: whoever did not
// get its answer sends the same line again, with the same ID, and the agent answers it from memory or once it is done. What
// an order changes is therefore changed once, however often the connection broke, and it breaks with every move of the VM.
// The agent keeps [Remembered] answers. An order older than that is carried out anew, so each verb names the state to
// reach, not the way there: reaching it twice is no harm. An order that failed is tried anew, too, but for hooks: what
// they do is the guest's owner's affair.
//
// # Framing
//
// A virtio-serial port is a stream without connections: after the manager's end was closed in the middle of a line, the
// agent holds the first half of it. So a client sends an empty line first, and both sides skip what they cannot read up to
// the next newline. A line of more than [MaxLine] bytes is skipped as a whole.
//
// # Versions
//
// Both sides name theirs in each line. A field that is not known is ignored, a verb that is not known is refused with
// [UnknownVerb]: an old agent serves a new manager as far as it goes (invariant X1).
package wire
