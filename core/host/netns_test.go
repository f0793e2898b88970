package host

import (
	"fmt"
	"os/exec"
)

// addLink makes a veth pair in the present namespace.
func addLink(name string) error {
	out, err := exec.Command("ip", "link", "add", name, "type", "veth", "peer", "name", name+"p").CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip link add: %w: %s", err, out)
	}
	return nil
}
