// Package link brings the links of one network namespace to a configured state and keeps them there.
//
// Plan is the engine: a pure function from (desired, observed) to an ordered list of operations, each of them
// idempotent. Namespace is the adapter: it observes, carries operations out and waits for changes, over
// rtnetlink. Both are about one namespace, the one the calling process or thread is in.
//
// What Plan leaves alone: links that no configuration names, addresses the kernel made by itself (IPv6
// link-local and those of other than global scope), and routes that another routing protocol than "static"
// put there. So a routing daemon can work beside it.
package link
