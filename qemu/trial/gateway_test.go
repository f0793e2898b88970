package trial

import (
	"os/exec"
	"strings"
	"testing"
)

// TestGateway: what a move needs of the gateway. Who has handed a volume over is refused, and the log tells it.
func TestGateway(t *testing.T) {
	g, err := StartGateway(t.Context(), t.TempDir(), "a", "b")
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	write := func(host string) error {
		uri := "nbd://" + strings.TrimPrefix(g.Server, "tcp:") + "/" + Volume + "@" + g.Secrets[host]
		out, err := exec.CommandContext(t.Context(), "qemu-io", "-f", "raw", "-c", "write -P 7 0 4k", "-c", "flush", uri).CombinedOutput()
		t.Logf("%s: %s", host, out)
		return err
	}
	if _, err := g.Handover(t.Context(), Volume, "b", "a"); err != nil {
		t.Fatal(err)
	}
	if err := write("a"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := g.Handover(t.Context(), Volume, "a", "b"); err != nil {
			t.Fatal(err)
		}
	}
	if err := write("a"); err == nil {
		t.Error("a host that has handed the volume over writes on")
	}
	if err := write("b"); err != nil {
		t.Error(err)
	}
	if err := g.OneWriter(t.Context()); err != nil {
		t.Error(err)
	}
}
