// Package capacity is the host's side of the balancer: it measures how many more connections each application
// component takes, and reports it to the boxes.
//
// A component's limit is the least that its sources say:
//
//	listen       free places in the accept queues of its listening sockets (sock_diag(7))
//	cgroup       room for more by memory and tasks, at what a connection costs (cgroup v2)
//	application  the application's own word: datagrams to a unix socket, in the manner of sd_notify(3)
//	max          a fixed number, never more
//
// A source that cannot be read, or an application that says nothing for its TTL, has no room: what is not known is
// full. Package split divides the limit over the boxes, package report is what goes over the wire.
//
// A Reporter measures every Interval. It reports when something has moved, when a box says that a component's credit
// runs low, at once when the application has spoken, and otherwise four times in the TTL that the boxes state. Times
// are of the monotonic clock. It costs one goroutine, one for each socket, and at most four for each box's replies.
package capacity
