package vmhost

import (
	"bytes"
	"os/exec"
	"regexp"
	"testing"
)

// TestHugePages starts a process of each kind, in this order: what is asked for one must not stay for the next.
func TestHugePages(t *testing.T) {
	for _, c := range []struct{ accel, want string }{{"tcg", "0"}, {"kvm", "1"}, {"tcg", "0"}, {"kvm", "1"}} {
		var out bytes.Buffer
		cmd := exec.Command("cat", "/proc/self/status")
		cmd.Stdout = &out
		if err := newStarter(false).start(cmd, c.accel); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Fatal(err)
		}
		got := regexp.MustCompile(`THP_enabled:\s+(\d)`).FindStringSubmatch(out.String())
		if got == nil || got[1] != c.want {
			t.Errorf("with %s: %q, want %s", c.accel, got, c.want)
		}
	}
}
