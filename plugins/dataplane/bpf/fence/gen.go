// Package fence is the program that lets a host's VNIs have packets, and only while their attachment lease runs.
// The source is fence.bpf.c; package dataplane/vni fills its maps.
package fence

import "github.com/cilium/ebpf"

//go:generate sh ../generate.sh fence

// Spec is the programs fence_overlay, fence_segment and fence_out, and their maps.
func Spec() (*ebpf.CollectionSpec, error) { return loadFence() }
