package attach

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
)

// TestRegistry runs scripts: `make VOLUME IDENTITY RIGHTS SECRET`, `revoke VOLUME IDENTITY`, `open VOLUME`,
// `list VOLUME`, `identify VOLUME SECRET`. `keep` writes the registry and reads it again.
func TestRegistry(t *testing.T) {
	datadriven.Walk(t, "testdata/tokens", func(t *testing.T, path string) {
		var r Registry
		now := time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			arg := make([]string, 4)
			for i, a := range d.CmdArgs {
				arg[i] = a.Key
			}
			var err error
			var out strings.Builder
			switch d.Cmd {
			case "make":
				err = r.Make(arg[0], arg[1], Rights(arg[2]), arg[3], now)
				now = now.Add(time.Minute)
			case "revoke":
				err = r.Revoke(arg[0], arg[1])
			case "open":
				r.Open(arg[0])
			case "list":
				fmt.Fprintf(&out, "closed: %v\n", r.Closed(arg[0]))
				for _, k := range r.List(arg[0]) {
					fmt.Fprintln(&out, k.Identity, k.Rights, k.Sum[:8], k.Made.Format(time.TimeOnly))
				}
			case "identify":
				k, ok := r.Identify(arg[0], arg[1])
				fmt.Fprintln(&out, ok, k.Identity, k.Rights)
			case "keep":
				b, err := json.Marshal(r)
				if err != nil {
					return err.Error()
				}
				if strings.Contains(string(b), "0123456789abcdef-") {
					return "the secret is in the file"
				}
				var again Registry
				if err := json.Unmarshal(b, &again); err != nil || !reflect.DeepEqual(r, again) {
					return fmt.Sprintf("read again: %v %+v, was %+v", err, again, r)
				}
			case "read":
				err = json.Unmarshal([]byte(d.Input), &r)
			default:
				d.Fatalf(t, "unknown command")
			}
			if err != nil {
				fmt.Fprintln(&out, "error:", err)
			}
			return out.String()
		})
	})
}

func TestSplit(t *testing.T) {
	for name, want := range map[string][2]string{"vol": {"vol", ""}, "vol@s3cret": {"vol", "s3cret"}, "": {}, "@x": {"", "x"}, "a@b@c": {"a", "b@c"}} {
		volume, secret, has := Split(name)
		if volume != want[0] || secret != want[1] || has != strings.Contains(name, "@") {
			t.Errorf("Split(%q) = %q %q %v", name, volume, secret, has)
		}
	}
	if got := ExportName("vol", "s3cret"); got != "vol@s3cret" {
		t.Errorf("ExportName: %q", got)
	}
}
