package boot

import (
	"strings"

	"github.com/ratchetos/ratchet/boot/verdict"
)

// announce prints the verdict. The first line is for people and for tests that read the console:
// "ratchet: verdict RELEASED counter 3 expected 3 (24 TPM commands, box 0.21 s, unseal 0.18 s, all 0.80 s)".
func announce(r verdict.Report, p Policy, say func(string, ...any)) {
	say("verdict %s counter %d expected %d (%d TPM commands, box %.2f s, unseal %.2f s, all %.2f s)",
		strings.ToUpper(string(r.Box.Decision)), r.Counter, r.Expected, r.TPM.Commands,
		r.Timing.BoxVerdict.Seconds(), r.Timing.Unseal.Seconds(), r.Timing.AllVerdict.Seconds())
	say("reason %s: %s", r.Box.Code, r.Box.Reason)
	if r.Box.Next != "" {
		say("next: %s", r.Box.Next)
	}
	if r.Open > 0 {
		say("attempts closed: %d", r.Open)
	}
	if r.Provisioned {
		say("*** THIS BOX WAS PROVISIONED BY THIS BOOT (image %s, storage root key %s)", r.Image, r.TPM.SRKName)
		if p.RecoveryKey != "" {
			say("*** DEVELOPMENT recovery key: %s", p.RecoveryKey)
		}
	}
	for _, i := range r.Images {
		if i.Code != "ok" {
			say("slot %s %s %s: %s", i.Slot, strings.ToUpper(string(i.Decision)), i.Code, i.Reason)
		}
	}
	for _, d := range r.Devices {
		say("device %s %s %s: %s", d.ID, strings.ToUpper(string(d.Decision)), d.Code, d.Reason)
	}
	if r.Box.Decision != verdict.Released && p.Development {
		say("development hint: to start over, power off, delete the software TPM's state (or clear the TPM in the firmware setup), write the disk image (disk.img of the build) again and boot")
	}
}
