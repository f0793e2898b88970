package model

import (
	"time"

	"github.com/ratchetos/ratchet/core/config/strict"
)

// Goal is what a move may cost. It states ends, not knobs: how memory is sent follows from it and from what is measured.
// The zero Goal is a move of at most DefaultGap, with no deadline, at full speed, encrypted, that neither holds the guest
// back nor can lose it.
type Goal struct {
	MaxGap    strict.Duration `json:"max_gap,omitempty" config:"max=1m" jsonschema:"description=longest time in which the guest may stand still (default 300ms)"`
	Deadline  strict.Duration `json:"deadline,omitempty" config:"max=168h" jsonschema:"description=longest time from the start of the move to its end; none by default"`
	Bandwidth strict.Size     `json:"bandwidth,omitempty" jsonschema:"description=bytes a second that the move may use, as 100MiB; all there is by default"`
	// The guest stands still at each page that it waits for: what spares the link here is the guest's time.
	PostCopyBandwidth strict.Size `json:"post_copy_bandwidth,omitempty" jsonschema:"description=bytes a second for what is left when a move ends by post-copy; all there is by default, since the guest waits for each page"`

	AllowThrottle bool `json:"allow_throttle,omitempty" jsonschema:"description=the guest may be slowed down when it writes faster than can be sent"`
	AllowPostCopy bool `json:"allow_post_copy,omitempty" jsonschema:"description=the guest may run at the target before all its memory is there; if the link is cut then, the VM can be lost; what is left goes at post_copy_bandwidth"`
	AllowPlain    bool `json:"allow_plain,omitempty" jsonschema:"description=memory and disks may be sent without TLS to hosts that have none"`
}

// DefaultGap is the gap that a Goal without one allows.
const DefaultGap = 300 * time.Millisecond

// Gap is the gap to aim at.
func (g Goal) Gap() time.Duration {
	if g.MaxGap == 0 {
		return DefaultGap
	}
	return time.Duration(g.MaxGap)
}
