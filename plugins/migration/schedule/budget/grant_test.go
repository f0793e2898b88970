package budget

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
)

// TestGrants runs testdata/grants.txt: `link NAME RATE` and `move ID LINKS [priority=N] [most=N]` lines, and what each move gets.
func TestGrants(t *testing.T) {
	datadriven.RunTest(t, "testdata/grants.txt", func(t *testing.T, d *datadriven.TestData) string {
		var links []Link
		var moves []Transfer
		number := func(text string) float64 {
			v, err := strconv.ParseFloat(text, 64)
			if err != nil {
				d.Fatalf(t, "%v", err)
			}
			return v
		}
		for line := range strings.Lines(d.Input) {
			f := strings.Fields(line)
			if f[0] == "link" {
				links = append(links, Link{f[1], number(f[2])})
				continue
			}
			m := Transfer{ID: f[1]}
			for _, arg := range f[2:] {
				key, value, ok := strings.Cut(arg, "=")
				switch {
				case !ok:
					m.Links = strings.Split(arg, "+")
				case key == "priority":
					m.Priority = int(number(value))
				case key == "most":
					m.Most = number(value)
				}
			}
			moves = append(moves, m)
		}
		grants := Grants(links, moves)
		var b strings.Builder
		for _, id := range slices.Sorted(maps.Keys(grants)) {
			fmt.Fprintf(&b, "%s %.1f\n", id, grants[id])
		}
		return b.String()
	})
}
