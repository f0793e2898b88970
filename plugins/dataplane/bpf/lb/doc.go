// Package lb holds the balancer's XDP program. Package table loads it and is the only user of its maps; the
// types here are generated from the C ones.
package lb
