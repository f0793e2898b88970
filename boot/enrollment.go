package boot

import (
	"context"
	"strings"

	"github.com/ratchetos/ratchet/boot/enroll"
	"github.com/ratchetos/ratchet/boot/recovery"
	"github.com/ratchetos/ratchet/boot/slot"
	"github.com/ratchetos/ratchet/hw/pci"
)

// Enrollment plans to write the image's Secure Boot keys into the firmware; write does it.
type Enrollment func(keep bool) (p enroll.Plan, write func() error, err error)

// firmwareEnrollment is the Enrollment of a machine that runs.
func firmwareEnrollment(root string) Enrollment {
	return func(keep bool) (enroll.Plan, func() error, error) {
		files, err := enroll.ReadFiles(root)
		if err != nil {
			return enroll.Plan{}, nil, err
		}
		roms, err := enroll.ROMs(pci.Bus{Root: root})
		if err != nil {
			return enroll.Plan{}, nil, err
		}
		vars := slot.EFIVars{}
		p, err := enroll.New(vars, files, enroll.Options{KeepFirmware: keep, ROMs: roms})
		return p, func() error { return p.Apply(vars) }, err
	}
}

// Enroll implements recovery.Box.
func (o *operator) Enroll(_ context.Context, keep bool) (recovery.Enrollment, error) {
	if o.Enrollment == nil {
		return recovery.Enrollment{}, enroll.ErrNoUEFI
	}
	p, write, err := o.Enrollment(keep)
	if err != nil {
		return recovery.Enrollment{}, err
	}
	lines := append([]string{"This will be written into the firmware:"}, p.Lines()...)
	for _, w := range p.Warnings {
		lines = append(lines, "warning: "+w)
	}
	if o.j.Code != "unprovisioned" {
		lines = append(lines, "warning: this box was provisioned with Secure Boot as it is now; after the restart it is isolated until `accept` binds it anew with the recovery key")
	}
	return recovery.Enrollment{Text: strings.Join(lines, "\n"), Write: write}, nil
}
