package target

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ratchetos/ratchet/plugins/gateway/target/exports"
)

// clearIt is what an operator is told to type.
const clearIt = "ratchetctl volume reservations clear a --yes"

// TestKeptReservations: a disk that never had reservations has no file; one whose file is torn is refused, with what to do.
func TestKeptReservations(t *testing.T) {
	const none = "No Registrations or Reservations\x00"
	ended, cancel := context.WithCancel(t.Context())
	cancel() // looks again without waiting
	for name, tc := range map[string]struct {
		protocol exports.Protocol
		text     string // "-" is no file
		says     []string
	}{
		"no file":       {exports.ProtocolISCSI, "-", nil},
		"none any more": {exports.ProtocolISCSI, none, nil},
		"emptied":       {exports.ProtocolISCSI, "", []string{"not complete", clearIt, "aptpl_"}},
		"no NUL":        {exports.ProtocolISCSI, none[:20], []string{"not complete", clearIt, "aptpl_"}},
		"noise":         {exports.ProtocolISCSI, "noise\x00", []string{"aptpl_", "no line of LIO", clearIt}},
		"NVMe":          {exports.ProtocolNVMe, "", nil},
	} {
		e := exports.Export{Protocol: tc.protocol, Volume: "a", UUID: exports.UUID{1}}
		s := &service{options: options{reservations: t.TempDir()}, ctx: ended}
		if tc.text != "-" {
			if err := os.WriteFile(filepath.Join(s.reservations, "aptpl_"+e.UUID.String()), []byte(tc.text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		_, err := s.kept(e)
		if err != nil {
			err = errors.New(withoutReservations("a", false, err))
		}
		if (err != nil) != (tc.says != nil) {
			t.Errorf("%s: %v", name, err)
		}
		for _, word := range tc.says {
			if err != nil && !strings.Contains(err.Error(), word) {
				t.Errorf("%s: %v does not say %q", name, err, word)
			}
		}
	}
}

// TestReservationsBeingWritten: a file that LIO is about to write is not taken for a torn one.
func TestReservationsBeingWritten(t *testing.T) {
	e := exports.Export{Protocol: exports.ProtocolISCSI, Volume: "a", UUID: exports.UUID{1}}
	s := &service{options: options{reservations: t.TempDir()}, ctx: t.Context()}
	path := filepath.Join(s.reservations, "aptpl_"+e.UUID.String())
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	looked := make(chan error)
	go func() {
		_, err := s.kept(e)
		looked <- err
	}()
	if err := os.WriteFile(path, []byte("No Registrations or Reservations\x00"), 0o600); err != nil {
		t.Error(err)
	}
	if err := <-looked; err != nil {
		t.Error(err)
	}
}
