package memory

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// Files of the kernel.
const (
	reserveFile     = "proc/sys/vm/lowmem_reserve_ratio"
	swappinessFile  = "proc/sys/vm/swappiness"
	pageClusterFile = "proc/sys/vm/page-cluster"
	pageListsFile   = "proc/sys/vm/percpu_pagelist_high_fraction"
	minFreeFile     = "proc/sys/vm/min_free_kbytes"
	watermarksFile  = "proc/sys/vm/watermark_scale_factor"
)

// What the kernel keeps free for requests that cannot wait, in KiB, and the distance of the marks above at which it
// begins and ends to look for more, in ten thousandths of the memory. Its own choice grows with the root of the memory: on
// a machine of 1 GiB 4 MiB and then twice 1 MiB that nobody else may have. 2 MiB are what it takes on one of 256 MiB,
// and where that counts more than the distance, a quarter of it is the distance.
const (
	minFree    = "2048"
	watermarks = "5"
)

// pageLists is the share of a zone that the CPUs may keep in lists of their own, 1/4096: so little that the kernel's
// lower limit counts, 1 MiB for each CPU. What lies there is free, but only that CPU can have it.
const pageLists = "4096"

// tune changes what suits an appliance less than a general machine.
func (s *settler) tune() error {
	ratios, err := os.ReadFile(s.path(reserveFile))
	if err != nil {
		return fmt.Errorf("tune memory: %w", err)
	}
	return s.write(reserveFile, noDMAReserve(string(ratios)))
}

// noDMAReserve is the setting without the reserve that allocations from higher zones must leave in the first one,
// the 16 MiB below ISA's limit: no driver of the catalogue allocates there. The other zones keep theirs.
func noDMAReserve(ratios string) string {
	zones := strings.Fields(ratios)
	if len(zones) > 0 {
		zones[0] = "0"
	}
	return strings.Join(zones, " ")
}

// tuneScarce is for machines that are short of memory.
func (s *settler) tuneScarce() error {
	return errors.Join(s.write(pageListsFile, pageLists), s.write(minFreeFile, minFree), s.write(watermarksFile, watermarks))
}

// tuneSwap tells the kernel what swapping to memory costs: as much as dropping a page of a file and reading it
// again, and nothing is gained by fetching neighbours along.
func (s *settler) tuneSwap() error {
	return errors.Join(s.write(swappinessFile, "100"), s.write(pageClusterFile, "0"))
}
