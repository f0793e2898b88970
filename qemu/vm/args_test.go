package vm

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
)

// TestArgs: from a description of a machine to QEMU's command line, one option a line.
func TestArgs(t *testing.T) {
	datadriven.RunTest(t, "testdata/args/machines", func(t *testing.T, d *datadriven.TestData) string {
		c := parseMachine(t, d.Input).withDefaults()
		if err := c.check(); err != nil || d.Cmd == "check" {
			return fmt.Sprintln(err)
		}
		lines := optionLines(c.args(launch{accel: TCG, code: "/code.fd", vars: "/vars.fd"}))
		if d.Cmd == "devices" {
			lines = lines[13:] // the common part ends with -mon
		}
		return strings.Join(lines, "\n") + "\n"
	})
}

func optionLines(args []string) []string {
	var lines []string
	for _, a := range args {
		if strings.HasPrefix(a, "-") {
			lines = append(lines, a)
		} else {
			lines[len(lines)-1] += " " + a
		}
	}
	return lines
}

func parseMachine(t *testing.T, text string) Config {
	t.Helper()
	var c Config
	for line := range strings.Lines(text) {
		f := append(strings.Fields(line), "", "", "", "")
		switch f[0] {
		case "none":
		case "direct":
			c.Firmware = Direct{Kernel: f[1], Initrd: f[2], Cmdline: f[3]}
		case "uefi":
			c.Firmware = UEFI{SecureBoot: f[1] == "secure", Cert: []byte("cert")}
		case "disk":
			c.Disks = append(c.Disks, Disk{Model: f[1], Path: f[2]})
		case "tpm":
			c.TPM = &TPM{Dir: "/tpm", Model: f[1]}
		case "nic":
			n := NIC{Model: f[1]}
			switch f[2] {
			case "user":
				var u User
				for _, pair := range f[3:] {
					var fw Forward
					if _, err := fmt.Sscanf(pair, "%d:%d", &fw.Host, &fw.Guest); err == nil {
						u.Forwards = append(u.Forwards, fw)
					}
				}
				n.Net = u
			case "tap":
				n.Net = Tap{File: os.Stdin}
			case "hub":
				n.Net = Hub{N: int(f[3][0] - '0')}
			}
			c.NICs = append(c.NICs, n)
		default:
			t.Fatalf("unknown line %q", line)
		}
	}
	return c
}
