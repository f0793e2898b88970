package recovery

import (
	"strings"

	"github.com/ratchetos/ratchet/boot/verdict"
)

// Option is something that the operator may do next.
type Option struct {
	Command string
	Why     string
}

// Options lists what can help, the best first. The last two are always there.
func Options(s Status) []Option {
	var o []Option
	add := func(command, why string) { o = append(o, Option{command, why}) }
	if s.Rescue {
		for _, slot := range s.Slots {
			add("reflash "+slot.Name, "write this stick's image into it ("+slot.State+")")
		}
	} else {
		for _, slot := range s.Slots {
			if slot.Bad {
				add("reflash "+slot.Name, "write it from a signed update on a USB stick ("+slot.State+")")
			}
		}
	}
	released := s.Verdict.Decision == verdict.Released
	if s.SetupMode && s.Verdict.Code == "unprovisioned" {
		add("enroll", "write Secure Boot keys first: the firmware is in setup mode, and a box is bound to how it starts")
	}
	if !released {
		boxOptions(s.Verdict, add)
	} else {
		for _, d := range s.Devices {
			deviceOptions(d, add)
		}
	}
	if released {
		add("continue", "start the box")
	} else {
		add("continue", "start the box isolated, with a console that shows but changes nothing")
	}
	add("reboot", "try again from the start")
	return o
}

// boxOptions are by the verdict's code. What no command of this console can mend has none.
func boxOptions(v verdict.Verdict, add func(command, why string)) {
	const accept = "take disk, counter and devices as they are now (recovery key)"
	switch v.Code {
	case "unprovisioned":
		add("provision", "make this a new box; the recovery key is shown once")
		add("request TOKEN", "the same with a provisioning token of the owner")
	case "tpm-owned":
		add("accept", "go on with a provisioning that was cut off (the recovery key that it showed)")
		add("factory-reset", "destroy keys, data and configuration and start anew (recovery key)")
	case "counter-moved", "intent-missing", "intent-unchained", "too-many-attempts", "config-unreadable":
		add("validate", "release what reads back as the ledger says")
		add("accept", accept)
	case "ledger-differs", "ledger-corrupt", "ledger-factory", "tpm-rolled-back", "tpm-name", "srk-differs",
		"counter-missing", "expected-missing", "image-differs", "image-changed-open", "secure-boot-changed":
		add("accept", accept)
		add("factory-reset", "destroy keys, data and configuration and start anew (recovery key)")
	case "vault-shut":
		add("accept", "open STATE and DATA with the recovery key and bind them to this box again; a STATE without a file system is made anew, empty")
		add("factory-reset", "destroy keys, data and configuration and start anew (recovery key)")
	case "tpm-cleared":
		add("accept", "provision the TPM again and keep the data (the recovery key has to open it)")
		add("factory-reset", "destroy keys, data and configuration and start anew")
	case "tpm-absent", "tpm-not-reset", "tpm-forged", "tpm-error":
		add("poweroff", "a restart does not help: the TPM has to lose its power")
	}
}

func deviceOptions(d verdict.Device, add func(command, why string)) {
	switch d.Code {
	case "firmware-changed", "attempt-unfinished", "unreadable":
		add("validate "+d.ID, "read it again; it passes with firmware that is known good")
		add("recover "+d.ID, "take it with the firmware it has (recovery key)")
	case "missing":
		add("recover "+d.ID, "forget it (recovery key)")
	case "unknown", "swapped":
		add("recover "+d.ID, "admit it (recovery key)")
	}
}

// first is the option that a person who asks "and now?" wants; "" when there is nothing to mend.
func first(o []Option) string {
	if len(o) <= 2 || strings.Contains(o[0].Command, "TOKEN") {
		return ""
	}
	return o[0].Command
}
