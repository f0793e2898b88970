package link

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
)

// TestPlan runs testdata/plan.txt: each case gives a desired and an observed state and shows the operations.
func TestPlan(t *testing.T) {
	datadriven.RunTest(t, "testdata/plan.txt", func(t *testing.T, td *datadriven.TestData) string {
		d, o := Desired{}, Observed{Index: 7}
		for line := range strings.Lines(td.Input) {
			side, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
			what, value, _ := strings.Cut(rest, " ")
			switch side {
			case "want":
				set(t, what, value, &d.Name, &d.MTU, nil, &d.Addresses, &d.Routes)
			case "have":
				set(t, what, value, &o.Name, &o.MTU, &o.Up, &o.Addresses, &o.Routes)
			default:
				t.Fatalf("%s: line %q starts with neither want nor have", td.Pos, line)
			}
		}
		var out strings.Builder
		for _, op := range Plan(d, o) {
			if op.Index != 7 {
				t.Errorf("%s: %s has index %d, want 7", td.Pos, op, op.Index)
			}
			fmt.Fprintln(&out, op)
		}
		if out.Len() == 0 {
			return "nothing to do\n"
		}
		return out.String()
	})
}

func set(t *testing.T, what, value string, name *string, mtu *uint32, up *bool, addrs *[]netip.Prefix, routes *[]Route) {
	t.Helper()
	switch what {
	case "name":
		*name = value
	case "mtu":
		n, err := strconv.ParseUint(value, 10, 32)
		if err != nil {
			t.Fatal(err)
		}
		*mtu = uint32(n)
	case "up":
		*up = true
	case "address":
		*addrs = append(*addrs, netip.MustParsePrefix(value))
	case "route":
		f := strings.Fields(value)
		r := Route{To: netip.MustParsePrefix(f[0])}
		for i := 1; i+1 < len(f); i += 2 {
			switch f[i] {
			case "via":
				r.Via = netip.MustParseAddr(f[i+1])
			case "metric":
				n, err := strconv.ParseUint(f[i+1], 10, 32)
				if err != nil {
					t.Fatal(err)
				}
				r.Metric = uint32(n)
			}
		}
		*routes = append(*routes, r)
	default:
		t.Fatalf("unknown word %q", what)
	}
}
