// Package vm runs virtual machines for end-to-end tests and for `make run`: QEMU, optionally with a software
// TPM (swtpm) and with UEFI firmware (OVMF), driven through the serial console and QMP.
//
//	m, err := vm.Start(ctx, vm.Config{
//		Firmware: vm.UEFI{SecureBoot: true, Cert: cert},
//		Disks:    []vm.Disk{{Path: "build/image/full/disk.img", Snapshot: true}},
//		NICs:     []vm.NIC{{Net: vm.User{Forwards: []vm.Forward{{Guest: 10809}}}}},
//		TPM:      &vm.TPM{Dir: "build/tpm"},
//	})
//	defer m.Close()
//	line, err := m.Expect(ctx, "verdict: (release|isolate)")
//	conn, err := net.Dial("tcp", m.Forward(10809))
//
// # Lifetime
//
// A VM lives from Start until the guest powers off, Kill or Close is called, the context given to Start ends,
// or Config.Limit has passed, whichever comes first. Close is always needed; it waits until every process is
// gone and removes what was temporary. Processes are also killed by the kernel when this process dies, so an
// aborted test leaves nothing behind. Nothing here needs root.
//
// What persists between boots is named by the caller: disks, TPM.Dir (the TPM's state, NV indices included)
// and Config.Dir (UEFI variables, console log). Give the same ones again and the next VM is the same machine,
// power cycled.
//
// # Concurrency
//
// Any number of VMs may run at once; they share no path, port or socket. Methods of a VM may be called from
// any goroutine, but Expect and QMP.Event each move a cursor, so one reader at a time makes sense of them.
//
// # Guarantees
//
//   - Host ports are chosen by the kernel inside QEMU's own bind call: there is no window in which another
//     process can take them.
//   - Every wait has an end: the context's, the process's, or Config.Limit. Errors of a wait carry the last
//     40 console lines.
//   - The console is kept in memory (the last 8 MiB) and in Config.Dir/console.log, each line stamped with
//     host time since Start.
//   - The accelerator is chosen by booting, never by looking at /dev/kvm; see Accelerator.
//
// Kill is what a power cut is to QEMU, not to a disk: what the guest wrote stays in the host's page cache.
// Tests of lost writes need a disk that drops them.
package vm
