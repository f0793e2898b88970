// Package inventory is the box's hardware as core hands it out: what hw finds, what the boot verdict allows, and who
// has it.
//
// It implements host.Resources: a plugin's Want for a NIC or disk is resolved, held against the verdict for that
// device, opened and recorded. A device has at most one owner – a plugin, or "management" for the NIC that core keeps
// for itself; the boot disk belongs to "boot". A disk is opened with O_EXCL, a NIC moves into the plugin's network
// namespace and comes back when it is released.
//
// Without a boot report (core on a workstation) there is no verdict: disks of that machine are listed and never
// handed out, only files are.
//
// All methods may be called from any goroutine.
package inventory
