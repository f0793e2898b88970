// Package group is the program that spreads traffic to interface groups, on the egress of a client's overlay device.
// The source is group.bpf.c; package dataplane/group fills its maps.
package group

import "github.com/cilium/ebpf"

//go:generate sh ../generate.sh group

// Spec is the program group_egress and its maps.
func Spec() (*ebpf.CollectionSpec, error) { return loadGroup() }
