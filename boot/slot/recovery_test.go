package slot

import (
	"errors"
	"testing"
)

func TestRecoveryIsAskedOnce(t *testing.T) {
	f := Firmware{EFIVars{t.TempDir()}}
	for range 2 {
		if asked, err := f.TakeRecovery(); asked || err != nil {
			t.Fatalf("asked %v (%v) before anybody did", asked, err)
		}
		if err := f.AskRecovery(); err != nil {
			t.Fatal(err)
		}
		if asked, err := f.RecoveryAsked(); !asked || err != nil {
			t.Fatalf("asked %v (%v)", asked, err)
		}
		if asked, err := f.TakeRecovery(); !asked || err != nil {
			t.Fatalf("taken %v (%v)", asked, err)
		}
	}
	if err := (Firmware{}).AskRecovery(); !errors.Is(err, ErrNoFirmware) {
		t.Errorf("without UEFI: %v", err)
	}
}
