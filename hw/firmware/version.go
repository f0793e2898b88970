package firmware

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
)

// maxVersion keeps what a device says within a ledger record, whose texts have at most 255 bytes.
const maxVersion = 200

// Clean makes what a device says fit for a ledger and a console: printable ASCII without runs of
// blanks. A text that is too long ends in a digest of all of it, so that two of them stay different.
func Clean(s string) string {
	s = strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return ' '
		}
		return r
	}, s)), " ")
	if len(s) <= maxVersion {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	return s[:maxVersion-19] + " #" + hex.EncodeToString(sum[:8])
}

// Running is the version of all that a device runs: "10.20" for one component, "fw.app 1.2, fw.mgmt
// 10.20" in order of name for several. Parts of the board that cannot be replaced are left out.
func Running(components []Component) string {
	return join(components, func(c Component) string { return c.Running })
}

// Stored is what Running says after the next reset.
func Stored(components []Component) string {
	return join(components, func(c Component) string {
		if c.Stored != "" {
			return c.Stored
		}
		return c.Running
	})
}

// Expected is what Running says once an update has taken effect: the named components with their new
// versions, the others as they are. The name "" stands for the only component.
func Expected(components []Component, update map[string]string) string {
	changed := slices.Clone(components)
	for i := range changed {
		c := &changed[i]
		if v, ok := update[c.Name]; ok {
			c.Running = v
		} else if v, ok := update[""]; ok && len(update) == 1 && !c.Fixed {
			c.Running = v
		}
	}
	return Running(changed)
}

func join(components []Component, version func(Component) string) string {
	var parts []Component
	for _, c := range components {
		if c.Running = version(c); c.Running != "" && !c.Fixed {
			parts = append(parts, c)
		}
	}
	if len(parts) == 1 {
		return Clean(parts[0].Running)
	}
	slices.SortFunc(parts, func(a, b Component) int { return strings.Compare(a.Name, b.Name) })
	words := make([]string, len(parts))
	for i, c := range parts {
		words[i] = c.Name + " " + c.Running
	}
	return Clean(strings.Join(words, ", "))
}
