// Package boot is the init applet: from the kernel's first process to the verdict, and then core.
//
// Purpose. Main runs as PID 1 from the initramfs. It follows docs/reference/boot-protocol.md B1 in order, one step a file:
//
//	policy.go   a. the policy baked into the image
//	tpm.go      b. read C, E, J and V in sessions salted to the storage root key
//	approve.go     the signed policy of this image, without which the TPM lets it do nothing
//	disk.go     c. find the boot disk, binding one storage controller at a time, the one that
//	            an EFI variable names (efi.go) first; hide other disks behind it
//	check.go    d. LEDGER, and the verdict for the box
//	recover.go     what can be done about the verdict: a signed request that waits (request.go), the recovery
//	            console (operate.go); operator.go, reset.go, reflash.go, rescue.go, stick.go do it
//	slots.go       count the boot, read back the image slots of open attempts (beside e), repair boot entries
//	watchdog.go    the hardware watchdog, armed before anything is looked at
//	devices.go  e. bind every catalogued device, read it back, verdict for each
//	close.go    f. close attempts: new ledger slot, sync, then E, read back
//	vault.go    g. the box's secret out of the TPM (beside e), STATE and DATA mapped, STATE mounted; volumes.go: how
//	close.go    h. extend PCR 11 with the verdict, lock E
//	handover.go i. report and configuration into sealed memfds, exec core in this process
//
// Check is a–h without a kernel: it works on a Machine, whose parts are small interfaces, so that the
// whole flow runs in a test on a software TPM, a file for LEDGER and hardware made of maps.
//
// Guarantees. Nothing but TPM, console, efivarfs, watchdog and one storage controller at a time is touched
// before the box's verdict. Every error becomes a verdict; Check does not return one. What is not
// released has no driver bound when core starts. PCR 11 is capped in any case. There is no loop that
// waits for something to get better, and a panic ends at a console that answers.
//
// Lifetime and concurrency. Once a boot. Devices are bound by a few goroutines at a time; the rest
// is one goroutine.
//
// Source: docs/reference/boot-protocol.md; docs/explanation/secure-counter.md.
package boot
