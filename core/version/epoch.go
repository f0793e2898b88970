package version

import (
	"strconv"
	"time"
)

// Epoch is the time of the commit in Unix seconds, decimal, set like Version. It is the commit's
// time and not the build's, so that two builds of one commit are the same bit for bit.
var Epoch = ""

// Time returns Epoch as a time: the clock of the box is never set to anything earlier. It is zero
// when the build did not set it.
func Time() time.Time {
	s, err := strconv.ParseInt(Epoch, 10, 64)
	if err != nil {
		return time.Time{}
	}
	return time.Unix(s, 0).UTC()
}
