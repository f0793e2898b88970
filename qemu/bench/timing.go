package bench

import (
	"fmt"
	"strings"
)

// timing is what a box prints about its own start, in seconds of its own clock.
type timing struct {
	commands    int     // sent to the TPM before core
	boxVerdict  float64 // from the opening of the TPM
	unseal      float64 // secret from the TPM, STATE and DATA unlocked
	allVerdict  float64
	initToReady float64
	ready       float64 // since the kernel started
}

// parseTiming reads the two lines in which init and core sum up the boot (boot/print.go, core/console.go).
func parseTiming(verdict, ready string) (t timing, err error) {
	_, tail, _ := strings.Cut(verdict, "(")
	if _, err := fmt.Sscanf(tail, "%d TPM commands, box %f s, unseal %f s, all %f s)", &t.commands, &t.boxVerdict, &t.unseal, &t.allVerdict); err != nil {
		return t, fmt.Errorf("read times from %q: %w", verdict, err)
	}
	var up, enabled int
	if _, err := fmt.Sscanf(ready, "%d of %d plugins, %f s after init, boot clock %f s", &up, &enabled, &t.initToReady, &t.ready); err != nil {
		return t, fmt.Errorf("read times from %q: %w", ready, err)
	}
	if up != enabled || up == 0 {
		return t, fmt.Errorf("only %d of %d plugins came up", up, enabled)
	}
	return t, nil
}
