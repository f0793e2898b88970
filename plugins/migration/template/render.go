package template

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/ratchetos/ratchet/core/config/strict"
	"github.com/ratchetos/ratchet/plugins/migration/model"
)

// Render writes a draft as the YAML document to finish: its notes as comments, its suggestions as lines to uncomment.
// Reading it back gives the draft's template.
func Render(d Draft) string {
	y := &yaml{}
	t := d.Template
	for _, n := range d.Notes {
		y.comment(n)
	}
	y.line("version: %d", t.Version)
	y.text("name", t.Name)
	y.text("description", t.Description)
	y.group("select", func() {
		y.flag("all", t.Select.All)
		y.list("vms", t.Select.VMs)
		y.list("except", t.Select.Except)
		y.list("hosts", t.Select.Hosts)
		y.group("labels", func() {
			for _, k := range slices.Sorted(maps.Keys(t.Select.Labels)) {
				y.line("%s: %s", quote(k), quote(t.Select.Labels[k]))
			}
		})
		y.list("types", t.Select.Types)
		y.list("capabilities", t.Select.Capabilities)
	})
	y.vmType(t.Type, d.Changes)
	y.group("place", func() {
		y.list("hosts", t.Place.Hosts)
		y.text("policy", t.Place.Policy)
		y.number("max_per_host", t.Place.MaxPerHost)
		y.number("keep_vcpus", t.Place.KeepVCPUs)
		y.size("keep_memory", t.Place.KeepMemory)
	})
	y.group("goal", func() {
		y.duration("max_gap", t.Goal.MaxGap)
		y.duration("deadline", t.Goal.Deadline)
		y.size("bandwidth", t.Goal.Bandwidth)
		y.size("post_copy_bandwidth", t.Goal.PostCopyBandwidth)
		y.flag("allow_throttle", t.Goal.AllowThrottle)
		y.flag("allow_post_copy", t.Goal.AllowPostCopy)
		y.flag("allow_plain", t.Goal.AllowPlain)
	})
	y.number("priority", t.Priority)
	y.group("hooks", func() {
		y.list("before", t.Hooks.Before)
		y.list("after", t.Hooks.After)
	})
	y.group("waves", func() {
		y.number("canary", t.Waves.Canary)
		y.number("size", t.Waves.Size)
		y.duration("pause", t.Waves.Pause)
	})
	y.group("failures", func() {
		y.number("max", t.Failures.Max)
		y.number("percent", t.Failures.Percent)
	})
	return string(y.out)
}

// vmType writes the type, and as comments what it could be. When it has no keys the group is a comment too, because
// readers refuse a key without a value.
func (y *yaml) vmType(t model.VMType, changes []Suggestion) {
	empty := !y.group("type", func() {
		y.text("name", t.Name)
		y.number("vcpus", t.VCPUs)
		y.size("memory", t.Memory)
		y.text("cpu", t.CPU)
		y.text("nic", t.NIC)
		y.text("disk", t.Disk)
		y.group("require", func() {
			y.text("machine", t.Require.Machine)
			y.text("accel", t.Require.Accel)
			y.list("features", t.Require.Features)
		})
	})
	if empty && len(changes) > 0 {
		y.comment("type:  # possible in every one of these VMs; what is left out stays")
	}
	for _, s := range changes {
		y.comment(fmt.Sprintf("  %s: %s  # %s", s.Key, s.Value, s.Why))
	}
}

// yaml writes keys that have a value, and groups that have a key.
type yaml struct {
	out    []byte
	indent string
}

func (y *yaml) line(format string, args ...any) {
	y.out = append(y.out, y.indent...)
	y.out = fmt.Appendf(y.out, format, args...)
	y.out = append(y.out, '\n')
}

// comment keeps to one line whatever names a hypervisor or a guest may have reported.
func (y *yaml) comment(text string) {
	y.line("# %s", strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text))
}

// group tells whether body has written anything; a group without keys is not written.
func (y *yaml) group(key string, body func()) bool {
	start := len(y.out)
	y.line("%s:", key)
	empty := len(y.out)
	outer := y.indent
	y.indent += "  "
	body()
	y.indent = outer
	if len(y.out) == empty {
		y.out = y.out[:start]
		return false
	}
	return true
}

func (y *yaml) text(key, value string) {
	if value != "" {
		y.line("%s: %s", key, quote(value))
	}
}

func (y *yaml) number(key string, n int) {
	if n != 0 {
		y.line("%s: %d", key, n)
	}
}

func (y *yaml) flag(key string, set bool) {
	if set {
		y.line("%s: true", key)
	}
}

func (y *yaml) size(key string, n strict.Size) {
	if n != 0 {
		y.line("%s: %s", key, n)
	}
}

func (y *yaml) duration(key string, d strict.Duration) {
	if d != 0 {
		y.line("%s: %s", key, d)
	}
}

func (y *yaml) list(key string, values []string) {
	if len(values) == 0 {
		return
	}
	quoted := make([]string, len(values))
	for i, v := range values {
		quoted[i] = quote(v)
	}
	y.line("%s: [%s]", key, strings.Join(quoted, ", "))
}

// quote leaves plain words plain, and writes all else as YAML reads JSON's strings.
func quote(s string) string {
	word := s != "" && (s[0] >= 'a' && s[0] <= 'z' || s[0] >= 'A' && s[0] <= 'Z')
	for _, c := range []byte(s) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_', c == '.', c == '/', c == ' ':
		default:
			word = false
		}
	}
	switch strings.ToLower(s) {
	case "true", "false", "yes", "no", "on", "off", "null", "y", "n", "inf", "nan":
		word = false
	}
	if _, err := strconv.ParseFloat(s, 64); err == nil {
		word = false
	}
	if word && strings.TrimSpace(s) == s {
		return s
	}
	return strconv.Quote(s)
}
