package args

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/ratchetos/ratchet/plugins/migration/model"
)

// base is what the cases in testdata change.
const base = `{"version": 1, "vm": "web", "machine": "pc-i440fx-7.2", "accel": "tcg", "cpu": {"model": "qemu64"},
	"vcpus": 1, "max_vcpus": 4, "memory": {"boot": 268402688}}`

var networks = map[string]Network{
	"lan": User("tcp:127.0.0.1:2222-:22"), "dmz": {Bridge: "br0", Helper: "/helper"}, "inner": {},
}

func shape(t *testing.T, change string) model.Shape {
	t.Helper()
	var s model.Shape
	for _, text := range []string{base, change} {
		d := json.NewDecoder(strings.NewReader(text))
		d.DisallowUnknownFields()
		if err := d.Decode(&s); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	return s
}

// TestBuild: from a shape to QEMU's command line, one option a line; what all of them have is left out but once.
func TestBuild(t *testing.T) {
	common := map[string]bool{}
	datadriven.RunTest(t, "testdata/build", func(t *testing.T, d *datadriven.TestData) string {
		o := Options{Dir: "/run/web", MonitorFD: 3, LogConsoles: true, Networks: networks, Tokens: map[string]string{"v1": "secret"}}
		o.Incoming, o.Paused = d.HasArg("incoming"), d.HasArg("paused")
		if d.HasArg("tls") {
			o.NBDCredentials = "/tls"
		}
		list, err := Build(shape(t, d.Input), o)
		if err != nil {
			return "refused:\n" + err.Error() + "\n"
		}
		var lines []string
		for _, a := range list {
			if strings.HasPrefix(a, "-") {
				lines = append(lines, a)
			} else {
				lines[len(lines)-1] += " " + a
			}
		}
		var out strings.Builder
		for _, l := range lines {
			if d.Cmd == "all" {
				common[l] = true
			} else if common[l] {
				continue
			}
			out.WriteString(l + "\n")
		}
		return out.String()
	})
}

// FuzzBuild: what Check lets through is built, of as many options as it has devices.
func FuzzBuild(f *testing.F) {
	f.Add(base)
	f.Add(`{"version":1,"vm":"a,b","machine":"pc-1","accel":"tcg","cpu":{"model":"x"},"vcpus":1,"max_vcpus":1,"memory":{"boot":1048576}}`)
	f.Add(`{"version":1,"vm":"v","machine":"pc-1","accel":"kvm","cpu":{"model":"x"},"vcpus":2,"max_vcpus":2,"memory":{"boot":1048576,"max":8388608,"slots":1,
		"dimms":[{"id":"d","size":2097152}]},"nics":[{"id":"n","model":"e1000","mac":"52:54:00:00:00:01","network":"lan","addr":"0x3"}],
		"disks":[{"id":"x","model":"scsi-hd","addr":"0:1","source":{"local":"/d"}}],"others":[{"id":"s","args":"isa-serial,id=s,chardev=serial0"}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		var s model.Shape
		if json.Unmarshal([]byte(text), &s) != nil || Check(s) != nil {
			return
		}
		all := map[string]Network{}
		for _, n := range s.NICs {
			all[n.Network] = Network{}
		}
		list, err := Build(s, Options{Networks: all})
		if err != nil {
			t.Fatalf("checked and refused: %v", err)
		}
		devices, want := 0, len(s.NICs)+len(s.Disks)+len(s.Others)+len(s.Memory.DIMMs)+len(s.Memory.VirtioMem)+s.VCPUs-1
		for i, a := range list {
			if a == "-device" {
				devices++
				if v := list[i+1]; strings.HasPrefix(v, "{") && !json.Valid([]byte(v)) {
					t.Fatalf("device %s", v)
				}
			}
		}
		if devices != want {
			t.Fatalf("%d devices in %q, want %d", devices, list, want)
		}
	})
}
