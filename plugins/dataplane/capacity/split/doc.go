// Package split divides what one component of a host can take among the balancers that send to it.
//
// A host measures how many more connections the component takes. Each balancer counts how many it has dispatched, and
// says so in its replies. The engine turns both into grants: an absolute count per balancer, up to which it may have
// dispatched. On the wire a grant is {accepted, limit} with accepted + limit = grant (invariant D1: a balancer's credit
// is limit − (dispatched − accepted), so what is on its way when a report arrives has been subtracted).
//
// What holds at any moment, whatever is lost, late or out of order:
//
//	sum of the grants that may be in force ≤ connections in the host's account + limit
//
// so all balancers together never send more than the host said it takes. A grant that was lowered counts in full
// until the balancer has confirmed the lower one; a balancer that confirms nothing gets no more, and its grants count
// until they must have expired. Shares follow what each balancer dispatches; a quiet one keeps a little, to begin with.
//
// "In the host's account" is known in one of two ways. Counted: the application counts the connections it accepted, and
// the measurement carries that number. Echoed: nothing counts, and what a balancer said it had dispatched Settle ago is
// taken to have arrived and to be in the measurement. The latter leaves connections out whose handshake takes longer
// than Settle, so a source for it should see half-open connections as well (package capacity's listen queue does).
//
// Counts drift: connections that came past the balancers, or that ended before the application saw them. Both are found
// by comparing with a confirmed count, at once in the first case, after LostAfter in the second.
//
// The engine is stepped with the time since any fixed moment on a clock that does not jump. It is not safe for
// concurrent use.
package split
