// Package lease is the program that sends a service's traffic to the producers a host has leased, on the egress of its
// overlay device. The source is lease.bpf.c; package dataplane/lease fills its maps.
package lease

import "github.com/cilium/ebpf"

//go:generate sh ../generate.sh lease

// Spec is the program lease_egress and its maps.
func Spec() (*ebpf.CollectionSpec, error) { return loadLease() }
