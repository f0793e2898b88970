package agent

import (
	"testing"

	"github.com/ratchetos/ratchet/plugins/dataplane/group"
	"github.com/ratchetos/ratchet/plugins/dataplane/nettest"
	"github.com/ratchetos/ratchet/plugins/dataplane/overlay"
	"github.com/ratchetos/ratchet/plugins/dataplane/vni"
)

// Without its device an agent is of no use, whether it was deleted or another one has its name.
func TestDeletedDeviceEndsTheAgent(t *testing.T) {
	for name, c := range map[string]struct {
		happens []string
		ends    bool
	}{
		"deleted":       {[]string{"link delete ratchet-vx"}, true},
		"made by hand":  {[]string{"link delete ratchet-vx", "link add ratchet-vx type vxlan external dstport 4789 gbp"}, true},
		"only set down": {[]string{"link set ratchet-vx down"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			n := nettest.New(t)
			n.Run(func() {
				d := &device{name: overlay.DeviceName}
				if err := d.look(); err != nil {
					t.Errorf("before it is made: %v", err)
				}
				if _, err := overlay.Ensure(overlay.Options{}); err != nil {
					t.Error(err)
				}
				if err := d.look(); err != nil {
					t.Error(err)
				}
				n.IP(c.happens...)
				if err := d.look(); (err != nil) != c.ends {
					t.Errorf("looked at: %v", err)
				}
			})
		})
	}
	for want, c := range map[string]*Config{
		"":           {},
		"ratchet-vx": {Groups: &group.AgentConfig{}},
		"vx7":        {Attachments: &vni.AgentConfig{Overlay: "vx7"}},
	} {
		if got := c.deviceName(); got != want {
			t.Errorf("device %q, want %q", got, want)
		}
	}
}
