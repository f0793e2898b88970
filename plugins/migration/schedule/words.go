package schedule

import (
	"fmt"
	"time"
)

// Bytes writes a number of bytes for people.
func Bytes(n uint64) string { return scaled(float64(n)) + "B" }

// PerSecond writes a rate for people.
func PerSecond(bps float64) string { return scaled(bps) + "B/s" }

func scaled(v float64) string {
	for _, unit := range []string{"", "Ki", "Mi", "Gi"} {
		if v < 1024 {
			return number(v) + " " + unit
		}
		v /= 1024
	}
	return number(v) + " Ti"
}

func number(v float64) string {
	if v < 10 && v != float64(int(v)) {
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.0f", v)
}

// short writes a duration with two significant places or so.
func short(d time.Duration) string {
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	case d < time.Hour:
		return d.Round(time.Second).String()
	}
	d = d.Round(time.Minute)
	if d%time.Hour == 0 {
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
}
