package strict

import (
	"encoding"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Size is a number of bytes. In a configuration it is "64MiB", "10G" or a plain number of
// bytes; the units k, M, G and T are binary with and without "iB".
type Size int64

// Duration is a span of time, never negative: "30s", "1h30m".
type Duration time.Duration

var (
	_ encoding.TextUnmarshaler = (*Size)(nil)
	_ encoding.TextMarshaler   = Size(0)
	_ encoding.TextUnmarshaler = (*Duration)(nil)
	_ encoding.TextMarshaler   = Duration(0)
)

var units = []struct {
	letter string
	shift  uint
}{{"T", 40}, {"G", 30}, {"M", 20}, {"K", 10}}

// UnmarshalText refuses decimal units ("MB"): half of the world reads them as binary, and
// a volume that is 5 % smaller than expected is found out too late.
func (s *Size) UnmarshalText(text []byte) error {
	in := strings.TrimSpace(string(text))
	digits := strings.TrimRight(in, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ ")
	unit := strings.TrimSpace(in[len(digits):])
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 {
		return fmt.Errorf("%q is not a size; write a whole number with a unit, such as 64MiB or 10GiB", in)
	}
	shift := uint(0)
	if name, binary := strings.CutSuffix(unit, "iB"); unit != "" && unit != "B" {
		for _, u := range units {
			if strings.EqualFold(name, u.letter) {
				shift = u.shift
			}
		}
		if shift == 0 {
			if l := strings.TrimSuffix(unit, "B"); !binary && len(l) == 1 && strings.ContainsAny(l, "kKMGT") {
				return fmt.Errorf("%q has a decimal unit; use the binary one, %s%siB", in, digits, strings.ToUpper(l))
			}
			return fmt.Errorf("%q has an unknown unit %q; use B, KiB, MiB, GiB or TiB", in, unit)
		}
	}
	if n > math.MaxInt64>>shift {
		return fmt.Errorf("%q is larger than any disk", in)
	}
	*s = Size(n << shift)
	return nil
}

// MarshalText writes what UnmarshalText reads.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// String uses the largest unit that loses nothing.
func (s Size) String() string {
	if s > 0 {
		for _, u := range units {
			if n := s >> u.shift; n<<u.shift == s && n > 0 {
				return strconv.FormatInt(int64(n), 10) + u.letter + "iB"
			}
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// UnmarshalText insists on a unit: a bare "30" would be nanoseconds to Go and seconds to people.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil || v < 0 {
		return fmt.Errorf("%q is not a duration; write a number with a unit, such as 30s, 5m or 24h", text)
	}
	*d = Duration(v)
	return nil
}

// MarshalText writes what UnmarshalText reads.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// String is time.Duration's, without the zero units at its end: "5m", not "5m0s".
func (d Duration) String() string {
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
