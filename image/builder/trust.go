package builder

import (
	"github.com/ratchetos/ratchet/boot"
	"github.com/ratchetos/ratchet/image/initramfs"
	"github.com/ratchetos/ratchet/image/keys"
)

// trust puts into an image whom it believes: the public keys in its policy, the updates that enroll
// its certificates, and in a development image the approval of direct kernel boots. All of it is
// measured, so who changes it has another image.
func (o Options) trust(p *boot.Policy, f *initramfs.SystemFiles) (err error) {
	for _, x := range []struct {
		role keys.Role
		list *[]string
	}{{keys.Policy, &p.PolicyKeys}, {keys.Bundle, &p.BundleKeys}, {keys.Owner, &p.OwnerKeys}} {
		if *x.list, err = o.Keys.TrustedPEM(x.role); err != nil {
			return err
		}
	}
	if f.Enrolment, err = o.Keys.Enrolment(); err != nil {
		return err
	}
	f.Direct, err = o.approveDirect()
	return err
}
