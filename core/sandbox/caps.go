package sandbox

import (
	"fmt"
	"slices"
	"sort"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// capabilities that a plugin may ask for. CAP_SYS_ADMIN, CAP_SYS_MODULE and the like are
// left out on purpose: what needs them is core's work, or a companion's.
func capabilities() map[string]uintptr {
	return map[string]uintptr{
		"CAP_BPF":              unix.CAP_BPF,
		"CAP_IPC_LOCK":         unix.CAP_IPC_LOCK,
		"CAP_NET_ADMIN":        unix.CAP_NET_ADMIN,
		"CAP_NET_BIND_SERVICE": unix.CAP_NET_BIND_SERVICE,
		"CAP_NET_RAW":          unix.CAP_NET_RAW,
		"CAP_PERFMON":          unix.CAP_PERFMON,
		"CAP_SYS_NICE":         unix.CAP_SYS_NICE,
		"CAP_SYS_RESOURCE":     unix.CAP_SYS_RESOURCE,
	}
}

// companionCapabilities are those that a companion of a built-in plugin may ask for as well: a process that is there to
// hold them, so that the one that clients talk to does not. Under [Profile.Confine] CAP_SYS_ADMIN neither mounts nor
// makes namespaces, and CAP_DAC_OVERRIDE writes only where landlock lets it.
func companionCapabilities() map[string]uintptr {
	return map[string]uintptr{
		"CAP_DAC_OVERRIDE": unix.CAP_DAC_OVERRIDE,
		"CAP_SYS_ADMIN":    unix.CAP_SYS_ADMIN,
	}
}

// Capability finds a capability's number by its name, if a plugin may have it.
func Capability(name string) (uintptr, error) {
	known := capabilities()
	if c, ok := known[name]; ok {
		return c, nil
	}
	names := make([]string, 0, len(known))
	for n := range known {
		names = append(names, n)
	}
	sort.Strings(names)
	return 0, fmt.Errorf("capability %q cannot be granted to a plugin; these can: %s", name, strings.Join(names, " "))
}

// CompanionCapability is Capability for a companion of a built-in plugin.
func CompanionCapability(name string) (uintptr, error) {
	if c, ok := companionCapabilities()[name]; ok {
		return c, nil
	}
	return Capability(name)
}

// Launch is the part of the confinement that core gives to a process at its start.
type Launch struct {
	// UID and GID of the process; 0 keeps core's own (an ordinary user's workstation).
	UID int
	// Capabilities that the process keeps.
	Capabilities []string
	// Companion allows it those of CompanionCapability.
	Companion bool
}

// Apply sets attr. Leaving uid 0 clears every capability; the wanted ones come back as
// ambient capabilities, which survive exec for a user without privileges. What core itself lacks, as root of a container
// may, it cannot give: the process starts without and says what it therefore does not do.
func (l Launch) Apply(attr *syscall.SysProcAttr) error {
	if l.UID == 0 {
		return nil
	}
	attr.Credential = &syscall.Credential{Uid: uint32(l.UID), Gid: uint32(l.UID)}
	for _, name := range l.Capabilities {
		known := Capability
		if l.Companion {
			known = CompanionCapability
		}
		c, err := known(name)
		if err != nil {
			return err
		}
		if Effective(c) && !slices.Contains(attr.AmbientCaps, c) {
			attr.AmbientCaps = append(attr.AmbientCaps, c)
		}
	}
	return nil
}

// Effective says whether the calling thread has the capability in effect.
func Effective(c uintptr) bool {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return false
	}
	return data[c/32].Effective&(1<<(c%32)) != 0
}
