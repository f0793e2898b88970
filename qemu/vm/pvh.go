package vm

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// QEMU enters an unpacked kernel by its PVH entry point (Xen's docs/misc/pvh.pandoc): 32 bits, EBX at a structure that
// its option ROM has filled in. That ROM lays the initrd as high as it can, which in QEMU 7.2 is over the ACPI tables
// as soon as the machine has a TPM and its log there. So the initrd is laid by us, low, and a few instructions
// of ours tell the kernel of it on the way in.
const (
	startAt  = 0x7fff000 // the instructions, with the list of one module behind them
	initrdAt = 0x8000000 // behind every kernel: 128 MiB
	listAt   = startAt + 64
	spare    = 64 << 20 // what the machine must have beyond the initrd
)

// Members of struct hvm_start_info (include/xen/interface/hvm/start_info.h).
const (
	startModules = 12 // number of modules, 32 bits
	startList    = 16 // address of their list, 64 bits
)

// enterDirectly changes a configuration so that its kernel need not be unpacked in the machine. dir is the machine's.
func (c Config) enterDirectly(dir string) (Config, error) {
	direct, ok := c.Firmware.(Direct)
	if !ok || direct.Initrd == "" {
		return c, nil
	}
	initrd, err := os.Stat(direct.Initrd)
	if err != nil {
		return c, fmt.Errorf("read the initrd: %w", err)
	}
	if memory, ok := size(c.Memory); !ok || memory < initrdAt+initrd.Size()+spare {
		return c, nil
	}
	kernel, err := unpack(direct.Kernel)
	if err != nil || kernel == nil {
		return c, err
	}
	start := filepath.Join(dir, "start.bin")
	if err := os.WriteFile(start, startCode(kernel.entry, initrd.Size()), 0o644); err != nil {
		return c, err
	}
	c.Firmware = Direct{Kernel: kernel.path, Cmdline: direct.Cmdline}
	c.ExtraArgs = append([]string{
		"-device", fmt.Sprintf("loader,force-raw=on,addr=%#x,file=%s", startAt, escape(start)),
		"-device", fmt.Sprintf("loader,force-raw=on,addr=%#x,file=%s", initrdAt, escape(direct.Initrd)),
	}, c.ExtraArgs...)
	return c, nil
}

// size reads what QEMU's -m takes, as far as the harness uses it.
func size(memory string) (int64, bool) {
	unit := int64(1 << 20)
	if digits, ok := strings.CutSuffix(memory, "G"); ok {
		memory, unit = digits, 1<<30
	}
	n, err := strconv.ParseInt(strings.TrimSuffix(memory, "M"), 10, 32)
	return n * unit, err == nil
}

// startCode is the machine code at startAt: it says that there is one module and where, and goes on to the kernel.
func startCode(entry uint32, initrd int64) []byte {
	var b bytes.Buffer
	word := func(v uint32) { b.Write(binary.LittleEndian.AppendUint32(nil, v)) }
	set := func(member byte, v uint32) { // movl $v, member(%ebx)
		b.Write([]byte{0xc7, 0x43, member})
		word(v)
	}
	set(startModules, 1)
	set(startList, listAt)
	set(startList+4, 0)
	b.WriteByte(0xb8) // movl $entry, %eax
	word(entry)
	b.Write([]byte{0xff, 0xe0}) // jmp *%eax
	code := make([]byte, listAt-startAt, listAt-startAt+32)
	copy(code, b.Bytes())
	// struct hvm_modlist_entry: address, size, command line, reserved
	for _, v := range []uint64{initrdAt, uint64(initrd), 0, 0} {
		code = binary.LittleEndian.AppendUint64(code, v)
	}
	return code
}

// The note of a kernel's ELF file that holds its PVH entry point (include/xen/interface/elfnote.h).
const (
	noteOwner     = "Xen\x00"
	notePhysEntry = 18 // XEN_ELFNOTE_PHYS32_ENTRY
)

// enterAt changes the PVH entry point of an unpacked kernel in place. It returns the one of before, false if there is none.
func enterAt(kernel []byte, entry uint32) (before uint32, ok bool) {
	f, err := elf.NewFile(bytes.NewReader(kernel))
	if err != nil {
		return 0, false
	}
	for _, p := range f.Progs {
		if p.Type != elf.PT_NOTE || p.Off > uint64(len(kernel)) || p.Filesz > uint64(len(kernel))-p.Off {
			continue
		}
		if at := findEntry(kernel[p.Off : p.Off+p.Filesz]); at != nil {
			before = binary.LittleEndian.Uint32(at)
			binary.LittleEndian.PutUint32(at, entry)
			return before, true
		}
	}
	return 0, false
}

// findEntry looks through a segment of notes: sizes of name and description, type, then both, each filled up to 4 bytes.
// It returns the description, of which the first 4 bytes are the address.
func findEntry(notes []byte) []byte {
	const head = 12
	for len(notes) >= head {
		name, desc := uint64(binary.LittleEndian.Uint32(notes)), uint64(binary.LittleEndian.Uint32(notes[4:]))
		kind := binary.LittleEndian.Uint32(notes[8:])
		notes = notes[head:]
		at, end := (name+3)&^3, (name+3)&^3+(desc+3)&^3
		if end > uint64(len(notes)) {
			return nil
		}
		if kind == notePhysEntry && string(notes[:name]) == noteOwner && desc >= 4 {
			return notes[at : at+desc]
		}
		notes = notes[end:]
	}
	return nil
}
