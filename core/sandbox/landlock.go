package sandbox

import (
	"fmt"

	"github.com/landlock-lsm/go-landlock/landlock"
)

// ConfineFiles leaves the whole tree readable and only the given directories writable.
// network opens /proc/sys/net as well, for a plugin that configures its own NICs. It comes
// after Confine, once the handles are known, and cannot be undone or widened.
func (p *Profile) ConfineFiles(writable []string, network bool) error {
	rules := []landlock.Rule{
		landlock.RODirs("/"),
		landlock.RWFiles("/dev/null").IgnoreIfMissing(),
	}
	if len(writable) > 0 {
		rules = append(rules, landlock.RWDirs(writable...).WithRefer())
	}
	if network {
		rules = append(rules, landlock.RWDirs("/proc/sys/net").IgnoreIfMissing())
	}
	// BestEffort covers kernels without landlock and with an older one.
	if err := landlock.V5.BestEffort().RestrictPaths(rules...); err != nil {
		return fmt.Errorf("restrict files with landlock: %w", err)
	}
	return nil
}
