package strict

import (
	"encoding"
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"strconv"
)

func (d *decoder) scalar(path string, in any, out reflect.Value, r rules) {
	switch out.Kind() {
	case reflect.String:
		s, ok := in.(string)
		if !ok {
			hint := ""
			switch in.(type) {
			case json.Number, bool:
				hint = "; put it in quotes if it is meant"
			}
			d.errorf(path, "expected text, found %s%s", found(in), hint)
			return
		}
		d.enum(path, s, r)
		if s == "" && r.required {
			d.errorf(path, "must not be empty")
		}
		out.SetString(s)
	case reflect.Bool:
		b, ok := in.(bool)
		if !ok {
			d.errorf(path, "expected true or false, found %s", found(in))
			return
		}
		out.SetBool(b)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		d.integer(path, in, out, r)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		d.unsigned(path, in, out, r)
	case reflect.Float32, reflect.Float64:
		n, ok := in.(json.Number)
		f, err := n.Float64()
		if !ok || err != nil {
			d.errorf(path, "expected a number, found %s", found(in))
			return
		}
		d.bounds(path, f, r, "")
		out.SetFloat(f)
	default:
		d.errorf(path, "cannot be configured: the field has the Go type %s", out.Type())
	}
}

func (d *decoder) integer(path string, in any, out reflect.Value, r rules) {
	n, ok := in.(json.Number)
	v, err := strconv.ParseInt(n.String(), 10, 64)
	switch {
	case !ok || err != nil:
		d.errorf(path, "expected a whole number, found %s", found(in))
	case out.OverflowInt(v):
		d.errorf(path, "%d is out of range; it must fit in %d bits", v, out.Type().Bits())
	default:
		d.enum(path, n.String(), r)
		d.bounds(path, v, r, "")
		out.SetInt(v)
	}
}

func (d *decoder) unsigned(path string, in any, out reflect.Value, r rules) {
	n, ok := in.(json.Number)
	v, err := strconv.ParseUint(n.String(), 10, 64)
	switch {
	case !ok || err != nil:
		d.errorf(path, "expected a whole number that is not negative, found %s", found(in))
	case out.OverflowUint(v):
		d.errorf(path, "%d is out of range; it must fit in %d bits", v, out.Type().Bits())
	default:
		d.enum(path, n.String(), r)
		d.bounds(path, v, r, "")
		out.SetUint(v)
	}
}

func (d *decoder) text(path string, in any, out reflect.Value, u encoding.TextUnmarshaler, r rules) {
	s, ok := in.(string)
	if n, number := in.(json.Number); number && (out.Type() == sizeType || out.Type() == durationType) {
		s, ok = n.String(), true
	}
	what := textForms[out.Type()]
	if what == "" {
		what = "text"
	}
	if !ok {
		d.errorf(path, "expected %s, found %s", what, found(in))
		return
	}
	if err := u.UnmarshalText([]byte(s)); err != nil {
		// The messages of net/netip are for programmers; those of our own types say what to write.
		if what != "text" {
			err = fmt.Errorf("expected %s, found %q", what, s)
		}
		d.errorf(path, "%v", err)
		return
	}
	d.enum(path, s, r)
	switch v := u.(type) {
	case *Size:
		d.bounds(path, *v, r, "")
	case *Duration:
		d.bounds(path, *v, r, "")
	}
}

var (
	sizeType     = reflect.TypeFor[Size]()
	durationType = reflect.TypeFor[Duration]()
)

// textForms says what to write for the standard types whose own errors do not.
var textForms = map[reflect.Type]string{
	reflect.TypeFor[netip.Addr]():     "an IP address such as 192.0.2.1",
	reflect.TypeFor[netip.Prefix]():   "an address with its prefix length such as 192.0.2.1/24",
	reflect.TypeFor[netip.AddrPort](): "an address with a port such as 192.0.2.1:4444",
}

type quantity interface {
	int64 | uint64 | float64 | Size | Duration
}

// bounds checks min and max in the type of the value, so that "min=1MiB" on a Size is compared
// as a size.
func (d *decoder) bounds(path string, v any, r rules, noun string) {
	var low, high bool
	switch v := v.(type) {
	case int64:
		low, high = outside(v, r)
	case uint64:
		low, high = outside(v, r)
	case float64:
		low, high = outside(v, r)
	case Size:
		low, high = outside(v, r)
	case Duration:
		low, high = outside(v, r)
	}
	switch {
	case low && noun != "":
		d.errorf(path, "has %v %s; at least %s needed", v, noun, r.min)
	case low:
		d.errorf(path, "%v is too small; at least %s", v, r.min)
	case high && noun != "":
		d.errorf(path, "has %v %s; at most %s allowed", v, noun, r.max)
	case high:
		d.errorf(path, "%v is too large; at most %s", v, r.max)
	}
}

func outside[Q quantity](v Q, r rules) (low, high bool) {
	if limit, ok := parseQuantity[Q](r.min); ok && v < limit {
		low = true
	}
	if limit, ok := parseQuantity[Q](r.max); ok && v > limit {
		high = true
	}
	return low, high
}

// parseQuantity reads a limit from a tag; a test of each decoder's struct would show a bad one.
func parseQuantity[Q quantity](s string) (q Q, ok bool) {
	if s == "" {
		return q, false
	}
	var err error
	switch p := any(&q).(type) {
	case *int64:
		*p, err = strconv.ParseInt(s, 10, 64)
	case *uint64:
		*p, err = strconv.ParseUint(s, 10, 64)
	case *float64:
		*p, err = strconv.ParseFloat(s, 64)
	case encoding.TextUnmarshaler:
		err = p.UnmarshalText([]byte(s))
	}
	return q, err == nil
}
