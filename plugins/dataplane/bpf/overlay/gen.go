// Package overlay is the program on the ingress of the overlay's device. The source is overlay.bpf.c; package
// dataplane/overlay fills its maps.
package overlay

import "github.com/cilium/ebpf"

//go:generate sh ../generate.sh overlay

// Spec is the program overlay_ingress and its maps.
func Spec() (*ebpf.CollectionSpec, error) { return loadOverlay() }
