package vmhost

import (
	"encoding/json"
	"errors"
	"io"
	"syscall"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/qmp"
)

// A source that dies at the switch leaves the question whether it had run on: QEMU lets it by itself when the destination's last
// word is lost, and what the destination has is of the past then. QEMU says RESUME before the guest's next instruction, into a
// socket that keeps what is in it when QEMU is killed. So an agent that has read it to its end knows; another does not.

// StoodStill tells whether a VM that is gone was seen to stand still from the switch of its last move to its end.
func (h *Host) StoodStill(vm string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.still[vm]
}

// rests takes whether the VM is known to stand still since the switch.
func (m *machine) rests(still bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.still = still
}

// watchRest takes an event of the monitor.
func (m *machine) watchRest(e qmp.Event) {
	switch e.Name {
	case "RESUME":
		m.rests(false)
	case "MIGRATION":
		var is struct{ Status string }
		if json.Unmarshal(e.Data, &is) == nil && is.Status == "pre-switchover" { // the guest has been stopped for it
			m.rests(true)
		}
	}
}

// saidAll tells whether a monitor that ended with err was read to its end, and was ended by QEMU.
func saidAll(err error) bool {
	return !errors.Is(err, io.ErrUnexpectedEOF) && (errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET))
}
