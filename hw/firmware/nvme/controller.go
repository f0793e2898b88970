package nvme

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/ratchetos/ratchet/hw/firmware"
)

// controller is what Identify says about firmware.
type controller struct {
	slots       int
	readOnly1   bool          // slot 1
	immediate   bool          // activation without a reset
	updates     bool          // knows Download and Commit
	granularity int           // of Download's pieces, in bytes
	commit      time.Duration // how long Commit may take
	revision    string        // runs
}

// chunk is a piece of Download when the controller has no wish of its own; every controller takes a page.
const chunk = 4096

// identify reads the controller data structure (CNS 1).
func identify(a admin) (controller, error) {
	data := make([]byte, 4096)
	if err := a.submit(command{opcode: opIdentify, cdw10: 1, data: data, timeout: passthroughTimeout}); err != nil {
		return controller{}, fmt.Errorf("identify NVMe controller: %w", err)
	}
	return parseController(data), nil
}

func parseController(data []byte) controller {
	const oacs, frmw, mtfa, fwug = 256, 260, 270, 319
	c := controller{
		updates:     binary.LittleEndian.Uint16(data[oacs:])&(1<<2) != 0,
		slots:       max(1, int(data[frmw]>>1&7)),
		readOnly1:   data[frmw]&1 != 0,
		immediate:   data[frmw]&(1<<4) != 0,
		granularity: chunk,
		// Maximum Time for Firmware Activation is in tenths of a second; controllers that leave it
		// out have been seen to need many seconds all the same.
		commit:   max(30*time.Second, time.Duration(binary.LittleEndian.Uint16(data[mtfa:]))*100*time.Millisecond),
		revision: firmware.Clean(string(data[64:72])),
	}
	// In pages of 4 KiB; 0 says nothing, 0xff that anything goes.
	if g := data[fwug]; g != 0 && g != 0xff {
		c.granularity = int(g) * 4096
	}
	return c
}

// slotLog is the Firmware Slot Information log (page 3).
type slotLog struct {
	active, next int // next is 0 when a reset changes nothing
	revisions    [8]string
}

func readSlots(a admin) (slotLog, error) {
	const page, allNamespaces = 3, 0xffffffff
	data := make([]byte, 512)
	dwords := uint32(len(data)/4 - 1) // counted from zero
	err := a.submit(command{opcode: opGetLogPage, nsid: allNamespaces, cdw10: page | dwords<<16, data: data, timeout: passthroughTimeout})
	if err != nil {
		return slotLog{}, fmt.Errorf("read NVMe firmware slots: %w", err)
	}
	return parseSlots(data), nil
}

func parseSlots(data []byte) slotLog {
	l := slotLog{active: int(data[0] & 7), next: int(data[0] >> 4 & 7)}
	if l.next == l.active {
		l.next = 0
	}
	for slot := 1; slot < len(l.revisions); slot++ {
		l.revisions[slot] = firmware.Clean(string(data[slot*8 : slot*8+8]))
	}
	return l
}
