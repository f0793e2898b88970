package nvme

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/ratchetos/ratchet/hw/firmware"
	"github.com/ratchetos/ratchet/hw/firmware/firmwaretest"
)

// fake is a controller behind the ioctl: it keeps slots, takes downloads in order and commits as the
// specification says. Images start with their revision of 8 bytes.
type fake struct {
	slots       [8]string
	active      int
	next        int
	count       int
	readOnly1   bool
	immediate   bool
	noUpdates   bool
	granularity byte
	commitNow   Status // answer to "activate now" beside doing it; 0 is success
	refuse      Status // answer to "activate now" without doing it
	download    []byte
	pieces      []int
	commits     []string
}

var _ admin = (*fake)(nil)

func (c *fake) Close() error { return nil }

func (c *fake) reset() {
	if c.next != 0 {
		c.active, c.next = c.next, 0
	}
	c.download = nil
}

func (c *fake) submit(cmd command) error {
	if cmd.timeout <= 0 {
		return errors.New("no timeout")
	}
	switch cmd.opcode {
	case opIdentify:
		return c.identify(cmd)
	case opGetLogPage:
		if cmd.cdw10&0xff != 3 || int(cmd.cdw10>>16+1)*4 != len(cmd.data) {
			return invalidField
		}
		cmd.data[0] = byte(c.active | c.next<<4)
		for n := 1; n < len(c.slots); n++ {
			copy(cmd.data[n*8:], fmt.Sprintf("%-8s", c.slots[n]))
		}
		return nil
	case opDownload:
		if c.noUpdates {
			return invalidOpcode
		}
		if int(cmd.cdw10+1)*4 != len(cmd.data) || int(cmd.cdw11)*4 != len(c.download) {
			return overlappingRange
		}
		c.download = append(c.download, cmd.data...)
		c.pieces = append(c.pieces, len(cmd.data))
		return nil
	case opCommit:
		return c.commit(int(cmd.cdw10&7), cmd.cdw10>>3&7)
	}
	return invalidOpcode
}

func (c *fake) identify(cmd command) error {
	if cmd.cdw10 != 1 || len(cmd.data) != 4096 {
		return invalidField
	}
	copy(cmd.data[64:72], fmt.Sprintf("%-8s", c.slots[c.active]))
	cmd.data[260] = byte(c.count << 1)
	if c.readOnly1 {
		cmd.data[260] |= 1
	}
	if c.immediate {
		cmd.data[260] |= 1 << 4
	}
	if !c.noUpdates {
		cmd.data[256] = 1 << 2
	}
	cmd.data[319] = c.granularity
	return nil
}

func (c *fake) commit(slot int, action uint32) error {
	c.commits = append(c.commits, fmt.Sprintf("slot %d action %d", slot, action))
	if slot < 1 || slot > c.count || slot == 1 && c.readOnly1 && action == replace {
		return invalidSlot
	}
	switch action {
	case replace:
		if !bytes.HasPrefix(c.download, []byte("FW")) {
			return invalidImage
		}
		c.slots[slot] = strings.TrimSpace(string(c.download[2:8]))
		c.download = nil
	case activateAtReset:
		c.next = slot
	case activateNow:
		switch {
		case c.refuse != 0:
			return c.refuse
		case c.commitNow != 0:
			c.next = slot
			return c.commitNow
		}
		c.active, c.next = slot, 0
	default:
		return invalidField
	}
	return nil
}

func image(version string) []byte {
	b := make([]byte, 20_000)
	copy(b, fmt.Sprintf("FW%-6s", version))
	return b
}

func TestConformance(t *testing.T) {
	for name, made := range map[string]func() *fake{
		"at reset":           func() *fake { return &fake{count: 3, active: 1} },
		"at once":            func() *fake { return &fake{count: 3, active: 1, immediate: true, granularity: 1} },
		"first is read-only": func() *fake { return &fake{count: 2, active: 1, readOnly1: true, granularity: 0xff} },
		"done but for reset": func() *fake { return &fake{count: 2, active: 2, immediate: true, commitNow: needsController} },
		"not while it runs":  func() *fake { return &fake{count: 2, active: 1, immediate: true, refuse: needsTime} },
	} {
		t.Run(name, func(t *testing.T) {
			firmwaretest.Run(t, func(*testing.T) firmwaretest.Rig {
				c := made()
				c.slots[c.active] = "1.0"
				return firmwaretest.Rig{
					Open:  func(*testing.T) firmware.Firmware { return &Firmware{admin: c} },
					Reset: func(*testing.T) { c.reset() },
					Image: image, Bad: []byte("no firmware."), Strength: firmware.Version, Slots: c.count,
				}
			})
		})
	}
}

func TestDownloadIsCutByTheControllersGranularity(t *testing.T) {
	c := &fake{count: 2, active: 1, granularity: 2}
	f := &Firmware{admin: c}
	if err := f.Flash(t.Context(), bytes.NewReader(image("2")), 20_000, nil); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(c.pieces); got != "[8192 8192 3616]" {
		t.Errorf("pieces %s", got)
	}
	if got := fmt.Sprint(c.commits); got != "[slot 2 action 0]" {
		t.Errorf("commits %s", got)
	}
}

func TestFlashRefuses(t *testing.T) {
	for _, tt := range []struct {
		name string
		c    fake
		size int64
		want error
	}{
		{"odd size", fake{count: 2, active: 1}, 4098, firmware.ErrImage},
		{"nothing", fake{count: 2, active: 1}, 0, firmware.ErrImage},
		{"no commands", fake{count: 1, active: 1, noUpdates: true}, 4096, firmware.ErrUnsupported},
		{"only slot is read-only", fake{count: 1, active: 1, readOnly1: true}, 4096, firmware.ErrUnsupported},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := &Firmware{admin: &tt.c}
			if err := f.Flash(t.Context(), bytes.NewReader(image("2")), tt.size, nil); !errors.Is(err, tt.want) {
				t.Errorf("%v, want %v", err, tt.want)
			}
			if len(tt.c.pieces) > 0 || len(tt.c.commits) > 0 {
				t.Error("commands were sent")
			}
		})
	}
}

func TestSlotChoice(t *testing.T) {
	for _, tt := range []struct {
		c    controller
		l    slotLog
		want int
	}{
		{controller{updates: true, slots: 1}, slotLog{active: 1}, 1},
		{controller{updates: true, slots: 3}, slotLog{active: 1}, 2},
		{controller{updates: true, slots: 3}, slotLog{active: 2, next: 1}, 3},
		{controller{updates: true, slots: 2}, slotLog{active: 1, next: 2}, 2},
		{controller{updates: true, slots: 2}, slotLog{active: 2, next: 1}, 1},
		{controller{updates: true, slots: 2, readOnly1: true}, slotLog{active: 2}, 2},
	} {
		if got, err := tt.c.target(tt.l); got != tt.want || err != nil {
			t.Errorf("%+v %+v: slot %d, %v, want %d", tt.c, tt.l, got, err, tt.want)
		}
	}
}

func FuzzSlots(f *testing.F) {
	f.Add(make([]byte, 512))
	f.Fuzz(func(t *testing.T, b []byte) {
		b = append(b, make([]byte, 4096)...)
		l, c := parseSlots(b), parseController(b)
		if l.active > 7 || l.next > 7 || c.slots < 1 || c.slots > 7 || c.granularity < chunk {
			t.Errorf("%+v %+v", l, c)
		}
		for _, v := range append(l.revisions[:], c.revision) {
			if v != firmware.Clean(v) {
				t.Errorf("%q is not clean", v)
			}
		}
	})
}
