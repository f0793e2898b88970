package config

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
	"github.com/ratchetos/ratchet/hw"
)

// gateway stands for a plugin that wants disks and a socket.
type gateway struct{ plugin.Feature }

type gatewayConfig struct {
	Volumes []struct {
		Name string      `json:"name" config:"required"`
		Size plugin.Size `json:"size" config:"required,min=1MiB"`
		Disk string      `json:"disk" config:"required"`
		Ack  string      `json:"ack" config:"enum=log|ring"`
	} `json:"volumes" config:"required"`
	NBD struct {
		Listen  string `json:"listen"`
		KeyFile string `json:"key_file"`
	} `json:"nbd"`
	Cache plugin.Size `json:"cache"`
}

func (gateway) Describe() plugin.Descriptor {
	return &pluginpb.Descriptor{Name: "gateway", ConfigSchema: plugin.Schema(gatewayConfig{})}
}

func (gateway) Validate(_ context.Context, s plugin.Section) plugin.Validation {
	var c gatewayConfig
	v := plugin.Decode(s, &c)
	for i, volume := range c.Volumes {
		at := fmt.Sprintf("volumes[%d]", i)
		if volume.Name == "slow" {
			v.Warnf(at+".name", "a volume of this name was slow once")
		}
		if volume.Disk != "" {
			v.Wants = append(v.Wants, &pluginpb.Want{Name: volume.Name, Kind: pluginpb.Kind_DISK, Selector: volume.Disk, Path: at + ".disk"})
		}
	}
	if c.NBD.Listen != "" {
		v.Wants = append(v.Wants, &pluginpb.Want{Name: "nbd", Kind: pluginpb.Kind_LISTENER, Selector: c.NBD.Listen, Path: "nbd.listen"})
	}
	if c.NBD.KeyFile != "" {
		v.Wants = append(v.Wants, &pluginpb.Want{Name: "key", Kind: pluginpb.Kind_FILE, Selector: "file:" + c.NBD.KeyFile, Path: "nbd.key_file"})
	}
	return v
}

// links stands for a plugin that wants NICs.
type links struct{ plugin.Feature }

type linksConfig struct {
	Links []struct {
		NIC string `json:"nic" config:"required"`
	} `json:"links"`
}

func (links) Describe() plugin.Descriptor {
	return &pluginpb.Descriptor{Name: "dataplane", ConfigSchema: plugin.Schema(linksConfig{})}
}

func (links) Validate(_ context.Context, s plugin.Section) plugin.Validation {
	var c linksConfig
	v := plugin.Decode(s, &c)
	for i, l := range c.Links {
		v.Wants = append(v.Wants, &pluginpb.Want{Name: fmt.Sprint(i), Kind: pluginpb.Kind_NIC, Selector: l.NIC, Path: fmt.Sprintf("links[%d].nic", i)})
	}
	return v
}

var inventory = []hw.Device{
	{ID: "mac:52:54:00:72:61:01", Place: "pci:0000:00:03.0", Kind: hw.NIC, MAC: "52:54:00:72:61:01", Model: "virtio-net", Supported: true},
	{ID: "mac:52:54:00:72:61:02", Place: "pci:0000:00:04.0", Kind: hw.NIC, MAC: "52:54:00:72:61:02", Model: "e1000e", Supported: true},
	{ID: "pci:0000:00:09.0", Place: "pci:0000:00:09.0", Kind: hw.NIC, Why: "1234:5678 is not in the catalogue"},
	{ID: "serial:ratchet-data", Place: "pci:0000:00:05.0", Kind: hw.Disk, Serial: "ratchet-data", Model: "virtio-blk", Supported: true},
	{ID: "serial:boot", Place: "pci:0000:00:06.0", Kind: hw.Disk, Serial: "boot", Supported: true, Boot: true},
}

func checker(hardware bool) Checker {
	c := Features([]plugin.Feature{gateway{}, links{}})
	if hardware {
		c.Devices = inventory
	}
	return c
}

func report(ds Diagnostics) string {
	if len(ds) == 0 {
		return "ok\n"
	}
	return ds.Detail() + ds.Summary() + "\n"
}

// TestReports compares whole reports, as the operator sees them.
func TestReports(t *testing.T) {
	datadriven.Walk(t, "testdata/reports", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "parse":
				_, _, found := Parse("appliance.yaml", []byte(d.Input))
				return report(found)
			case "check":
				_, _, found := Load(t.Context(), "appliance.yaml", []byte(d.Input), checker(d.HasArg("hardware")))
				return report(found)
			case "show":
				c, _, found := Parse("appliance.yaml", []byte(d.Input))
				if found.Failed() {
					return report(found)
				}
				out, err := json.MarshalIndent(c, "", "  ")
				if err != nil {
					t.Fatal(err)
				}
				return string(out) + "\n"
			}
			t.Fatalf("unknown command %s", d.Cmd)
			return ""
		})
	})
}

const sample = `version: 1
hostname: demo
plugins:
  gateway:
    volumes:
      - name: a
        size: 64MiB # comment
        disk: "serial:x"
      - {name: b, size: 1MiB}
    "odd.key": 1
`

func TestLocate(t *testing.T) {
	_, src, _ := Parse("f", []byte(sample))
	datadriven.RunTest(t, "testdata/locate.txt", func(t *testing.T, d *datadriven.TestData) string {
		var b strings.Builder
		for path := range strings.SplitSeq(d.Input, "\n") {
			v, k := src.Locate(path), src.LocateKey(path)
			fmt.Fprintf(&b, "%s: value %d:%d+%d key %d:%d\n", path, v.Line, v.Column, v.Width, k.Line, k.Column)
		}
		return b.String()
	})
}

func TestDiff(t *testing.T) {
	parse := func(text string) *Config {
		c, _, found := Parse("f", []byte(text))
		if found.Failed() {
			t.Fatal(found.Detail())
		}
		return c
	}
	base := parse(sample)
	for _, test := range []struct {
		name, text, want string
	}{
		{"same", sample, ""},
		{"other notation", strings.NewReplacer("hostname: demo", "hostname: 'demo'", "- {name: b, size: 1MiB}", "- size: 1MiB\n        name: b").Replace(sample), ""},
		{"host name", strings.Replace(sample, "demo", "test", 1), "hostname"},
		{"plugin value", strings.Replace(sample, "64MiB", "65MiB", 1), "plugins.gateway"},
		{"plugin grant", strings.Replace(sample, "    volumes", "    grant: {memory: 64MiB}\n    volumes", 1), "plugins.gateway"},
		{"plugin off", strings.Replace(sample, "    volumes", "    enabled: false\n    volumes", 1), "plugins.gateway"},
		{"plugin added and removed", strings.Replace(sample, "  gateway", "  other", 1), "plugins.gateway plugins.other"},
		{"network", sample + "network: {management: {dhcp: false}}\ntime: {ntp: []}\n", "network time"},
		{"update", sample + "update: {healthy: 10s}\n", "update"},
	} {
		if got := strings.Join(Diff(base, parse(test.text)), " "); got != test.want {
			t.Errorf("%s: changed %q, want %q", test.name, got, test.want)
		}
	}
	if got := Diff(nil, base); len(got) != 7 {
		t.Errorf("from nothing: %v", got)
	}
}

func TestSchemaDocument(t *testing.T) {
	datadriven.RunTest(t, "testdata/schema.txt", func(t *testing.T, d *datadriven.TestData) string {
		out, err := SchemaDocument(map[string]string{
			"gateway": gateway{}.Describe().GetConfigSchema(), "dataplane": links{}.Describe().GetConfigSchema(),
		})
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	})
	if _, err := SchemaDocument(map[string]string{"bad": "{"}); err == nil {
		t.Error("a schema that is no JSON was taken")
	}
}

func TestCheckerFailures(t *testing.T) {
	c := Checker{Plugins: []string{"gateway"}, Validate: func(ctx context.Context, _ string, _ plugin.Section) (plugin.Validation, error) {
		if _, ok := ctx.Deadline(); !ok {
			t.Error("a plugin may take for ever")
		}
		return plugin.Validation{}, errors.New("the process ended")
	}}
	_, _, found := Load(t.Context(), "f", []byte("version: 1\nplugins:\n  gateway: {}\n"), c)
	if !found.Failed() || !strings.Contains(found.Detail(), "the process ended") {
		t.Errorf("report: %s", found.Detail())
	}
	if err := found.Err(); err == nil || !strings.Contains(err.Error(), "1 error") {
		t.Errorf("error: %v", err)
	}
}

// TestHostile documents are refused quickly.
func TestHostile(t *testing.T) {
	bomb := "a: &a [x]\n"
	for c := 'b'; c < 'z'; c++ {
		bomb += fmt.Sprintf("%c: &%c [*%c,*%c,*%c,*%c]\n", c, c, c-1, c-1, c-1, c-1)
	}
	for name, text := range map[string]string{
		"large":           "version: 1\n" + strings.Repeat("# x\n", MaxSize/4+1),
		"brackets":        strings.Repeat("[", 100_000),
		"braces":          strings.Repeat("{a: ", 100_000),
		"dashes":          strings.Repeat("- ", 100_000) + "x",
		"indentation":     deepBlock(2000),
		"alias bomb":      bomb,
		"many documents":  strings.Repeat("---\na: 1\n", 50_000),
		"many keys":       manyKeys(80_000),
		"as many as go":   manyKeys(maxParts - 1),
		"many elements":   "version: 1\na: [" + strings.Repeat("1,", 400_000) + "1]",
		"long line":       "version: 1\nhostname: " + strings.Repeat("x", MaxSize/2),
		"not UTF-8":       "version: 1\nhostname: \xff",
		"NUL":             "version: 1\nhostname: a\x00b",
		"escape sequence": "version: 1\nhostname: \x1b[2J",
	} {
		begin := time.Now()
		_, _, found := Parse("f", []byte(text))
		if !found.Failed() {
			t.Errorf("%s was accepted", name)
		}
		if took := time.Since(begin); took > 20*time.Second {
			t.Errorf("%s took %s", name, took)
		}
		if out := found.Detail(); len(out) > 64<<10 || strings.ContainsAny(out, "\x00\x1b") {
			t.Errorf("%s: report of %d bytes", name, len(out))
		}
	}
}

func deepBlock(n int) string {
	var b strings.Builder
	for i := range min(n, 1400) {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

func manyKeys(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "key%d: 1\n", i)
	}
	return b.String()
}

// FuzzParse: any bytes give a bounded report whose positions are in the document.
func FuzzParse(f *testing.F) {
	f.Add([]byte(sample))
	f.Add([]byte("version: 1\nversion: 2\n? a\n: b\n"))
	f.Add([]byte("a: &x {b: *x}\n<<: *x\n!t c: |\n  text\n"))
	f.Add([]byte("\ta: 'b\n- [{"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, src, found := Parse("f", data)
		if c == nil && !found.Failed() {
			t.Fatal("no configuration and no error")
		}
		for _, d := range found {
			if d.Line < 1 || d.Line > len(src.lines) || d.Column < 1 || d.Column > len([]rune(src.lines[d.Line-1]))+1 {
				t.Fatalf("position outside of the document: %s", d)
			}
		}
		if c != nil && !found.Failed() {
			if changed := Diff(c, c); changed != nil {
				t.Fatalf("differs from itself: %v", changed)
			}
		}
	})
}

// TestKnown: a disk that is gone keeps nobody from changing something else, and a new mistake of the same kind does.
func TestKnown(t *testing.T) {
	document := func(disks ...string) Diagnostics {
		var b strings.Builder
		b.WriteString("version: 1\nnetwork: {management: {nic: mac:52:54:00:72:61:01}}\nplugins:\n  gateway:\n    volumes:\n")
		for i, d := range disks {
			fmt.Fprintf(&b, "      - {name: v%d, size: 1MiB, disk: %q}\n", i, d)
		}
		_, _, found := Load(t.Context(), "appliance.yaml", []byte(b.String()), checker(true))
		return found
	}
	before := document("serial:gone", "serial:ratchet-data", "file:/nonexist")
	for name, tc := range map[string]struct {
		after  Diagnostics
		errors int
	}{
		"the same":            {document("serial:gone", "serial:ratchet-data", "file:/nonexist"), 0},
		"one taken out":       {document("serial:ratchet-data", "file:/nonexist"), 0},
		"all in other places": {document("serial:ratchet-data", "file:/nonexist", "serial:gone"), 0},
		"another gone":        {document("serial:gone", "serial:typo"), 1},
		"another mistake":     {document("serial:gone", "sda"), 1},
	} {
		t.Run(name, func(t *testing.T) {
			if found := tc.after.Known(before); found.count(Error) != tc.errors {
				t.Error(found.Detail())
			}
		})
	}
	if !before.Failed() {
		t.Error("what is gone is no error by itself")
	}
}
