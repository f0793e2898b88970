package slot

const (
	// SwitchAt is the boot without a healthy one before it at which the other slot is tried.
	SwitchAt = 3
	// RecoverAt is the first boot that stops in the recovery console.
	RecoverAt = 6
	maxCount  = 255
)

// Step is what a boot does because of the boots before it.
type Step int

// Steps.
const (
	Continue Step = iota
	// Switch tries the other slot once and restarts; without one the boot goes on.
	Switch
	// Recover stops in the recovery console.
	Recover
)

// Next counts a boot: before is the number since the last healthy one, now includes this one.
func Next(before uint8) (now uint8, step Step) {
	now = maxCount
	if before < maxCount {
		now = before + 1
	}
	switch {
	case now >= RecoverAt:
		return now, Recover
	case now == SwitchAt: // exactly then: firmware that ignores BootNext must not be asked for ever
		return now, Switch
	}
	return now, Continue
}
