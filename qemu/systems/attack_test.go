package systems

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
)

// The rows of the attack table (docs/explanation/secure-counter.md), in its order.
const (
	rowDiskBack   = "disk rolled back, TPM kept"
	rowTPMBack    = "TPM rolled back, disk kept"
	rowBothBack   = "both rolled back together"
	rowCleared    = "counter redefined, TPM cleared, factory disk"
	rowForeign    = "foreign program, command line or credential"
	rowBus        = "proxy on the TPM bus"
	rowPower      = "power cut within an attempt"
	rowFirmware   = "firmware changed behind our back"
	rowIntents    = "forged intents, bit flips"
	rowTPMOdd     = "TPM absent, locked out or odd"
	rowSecureBoot = "modified, unsigned, otherwise-signed image"
	rowSlots      = "new or old slot fails"
	rowDevices    = "device added, removed, swapped"
)

var rows = []string{
	rowDiskBack, rowTPMBack, rowBothBack, rowCleared, rowForeign, rowBus, rowPower, rowFirmware, rowIntents, rowTPMOdd,
	rowSecureBoot, rowSlots, rowDevices,
}

// shown collects the cases of each row, from tests that run side by side.
type shown struct {
	sync.Mutex
	cases map[string][]string
}

// attack puts a case into the attack table, with what came of it.
func (s *counterSuite) attack(t *testing.T, row, what, verdict string, args ...any) {
	t.Helper()
	if !slices.Contains(rows, row) || strings.Contains(row+what, ": ") {
		t.Fatalf("the attack table has no row %q, or %q has a colon", row, what)
	}
	s.shown.Lock()
	defer s.shown.Unlock()
	if s.shown.cases == nil {
		s.shown.cases = map[string][]string{}
	}
	s.shown.cases[row] = append(s.shown.cases[row], what)
	t.Logf(attackPrefix+"%s: %s: %s", row, what, fmt.Sprintf(verdict, args...))
}

// complete fails the suite when a row was not shown at all, unless somebody chose single tests.
func (s *counterSuite) complete(t *testing.T) {
	if t.Failed() || strings.Contains(flag.Lookup("test.run").Value.String(), "/") {
		return
	}
	for _, row := range rows {
		if len(s.shown.cases[row]) == 0 {
			t.Errorf("no case of the attack table's row %q was shown", row)
		}
	}
}

// long is the list of tests that `make test` leaves to `make systems`; they are not there then, rather than skipped.
// docs/explanation/system-tests.md says which, and what of each row is left.
func long(t *testing.T, name string, f func(*testing.T)) {
	t.Helper()
	if !testing.Short() {
		t.Run(name, f)
	}
}
