package core

import (
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ratchetos/ratchet/core/api"
	"github.com/ratchetos/ratchet/core/api/apipb"
	"github.com/ratchetos/ratchet/core/api/client"
)

// TestAuditTrail: what was done is told later, over a restart, also where core logs warnings only, as on a box.
func TestAuditTrail(t *testing.T) {
	dir := newDir(t)
	a := workstation(t, dir)
	c, err := client.New(client.Options{Address: "unix:" + filepath.Join(a.runDir, "api.sock")})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Config.Apply(t.Context(), &apipb.ApplyConfigRequest{Name: "a.yaml", Yaml: []byte(after)}); err != nil {
		t.Fatal(err)
	}
	a.mustClose(t)
	b := workstation(t, dir)
	defer b.mustClose(t)
	var lines []string
	err = backend{b}.PluginLogs(t.Context(), api.AuditTrail, 0, false, func(l *apipb.LogLine) error {
		lines = append(lines, l.GetText())
		return nil
	})
	if err != nil || len(lines) != 1 || !strings.Contains(lines[0], "/ratchet.api.v1.Config/Apply") || !strings.Contains(lines[0], `"outcome":"ok"`) {
		t.Errorf("%v, %v", lines, err)
	}
}

// TestAuditWithoutState: a box without STATE, or one whose STATE cannot be written, keeps the trail of the run.
func TestAuditWithoutState(t *testing.T) {
	a := &appliance{options: options{log: slog.New(slog.NewTextHandler(io.Discard, nil))}}
	for _, dir := range []string{"", "/proc/none"} {
		a.stateDir = dir
		a.openAudit()
		a.auditLog().Info("audit", "caller", "anna")
		if lines, err := a.audit.Lines(0); err != nil || len(lines) != 1 {
			t.Errorf("state in %q: %v, %v", dir, lines, err)
		}
		a.audit.Close()
	}
}
