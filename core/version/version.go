// Package version holds what the image builder stamps into the appliance binary.
//
// The builder sets both variables with -ldflags -X; a binary made by a plain `go build`
// keeps the defaults, so a development build is never mistaken for a release.
package version

import (
	"strconv"
	"time"
)

// Version is the output of `git describe --always --dirty --tags`.
var Version = "devel"

// Epoch is the time of the commit in Unix seconds, decimal. It is the commit's time and
// not the build's, so that two builds of one commit are the same bit for bit.
var Epoch = ""

// Time returns Epoch as a time: the clock of the box is never set to anything earlier.
// It is zero when the builder did not stamp the binary.
func Time() time.Time {
	s, err := strconv.ParseInt(Epoch, 10, 64)
	if err != nil {
		return time.Time{}
	}
	return time.Unix(s, 0).UTC()
}
