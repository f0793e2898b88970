package strict

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/google/go-cmp/cmp"
)

// sample has one field of every kind that a plugin may use.
type sample struct {
	Name    string                     `json:"name" config:"required" jsonschema:"description=what it is called, in full"`
	Volumes []volume                   `json:"volumes" config:"min=1,max=2"`
	Labels  map[string]string          `json:"labels"`
	Ports   map[string]uint16          `json:"ports"`
	Driver  string                     `json:"driver" config:"enum=s3|dir"`
	Level   int                        `json:"level" config:"enum=1|2,required"`
	Ratio   float64                    `json:"ratio" config:"min=0,max=1"`
	Flags   []string                   `json:"flags" config:"enum=fast|slow"`
	Gateway netip.Addr                 `json:"gateway"`
	Address []netip.Prefix             `json:"addresses"`
	Peer    *peer                      `json:"peer"`
	Extra   map[string]json.RawMessage `json:"extra"`
	Small   int8                       `json:"small"`
	Hidden  string                     `json:"-"`
	common
}

type common struct {
	Verbose bool `json:"verbose"`
}

type volume struct {
	Size Size     `json:"size" config:"required,min=4KiB,max=1TiB"`
	Age  Duration `json:"age" config:"min=1s,max=1h"`
	Key  string   `json:"key" config:"secret"`
}

func (v *volume) SetDefaults() { v.Age = Duration(time.Minute) }

type peer struct {
	Enabled bool            `json:"enabled"`
	Rest    json.RawMessage `config:"rest"`
}

func TestDecode(t *testing.T) {
	datadriven.RunTest(t, "testdata/decode.txt", func(t *testing.T, d *datadriven.TestData) string {
		var out sample
		var b strings.Builder
		for _, issue := range Decode([]byte(d.Input), &out) {
			key := ""
			if issue.Key {
				key = " (key)"
			}
			fmt.Fprintf(&b, "%s%s\n", issue, key)
		}
		if d.HasArg("show") {
			shown, err := json.MarshalIndent(out, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			b.Write(shown)
			b.WriteByte('\n')
		}
		if b.Len() == 0 {
			return "ok\n"
		}
		return b.String()
	})
}

func TestSchema(t *testing.T) {
	datadriven.RunTest(t, "testdata/schema.txt", func(t *testing.T, d *datadriven.TestData) string {
		s, err := Schema(&sample{})
		if err != nil {
			t.Fatal(err)
		}
		return string(s) + "\n"
	})
	for _, bad := range []any{nil, 3, struct{ C chan int }{}, loop{}} {
		if s, err := Schema(bad); err == nil {
			t.Errorf("Schema(%T) = %s, want an error", bad, s)
		}
	}
}

type loop struct {
	Next *loop `json:"next"`
}

func TestDecodeTarget(t *testing.T) {
	for _, out := range []any{nil, sample{}, (*sample)(nil)} {
		if got := Decode([]byte("{}"), out); len(got) != 1 {
			t.Errorf("Decode into %T = %v, want one issue", out, got)
		}
	}
}

func TestIssuesAreBounded(t *testing.T) {
	var doc strings.Builder
	doc.WriteString("{")
	for i := range 10 * maxIssues {
		fmt.Fprintf(&doc, "%q:1,", fmt.Sprint("key", i))
	}
	got := Decode([]byte(doc.String()+`"name":"x"}`), &sample{})
	if len(got) != maxIssues {
		t.Errorf("%d issues, want %d", len(got), maxIssues)
	}
}

func TestQuantities(t *testing.T) {
	datadriven.RunTest(t, "testdata/quantity.txt", func(t *testing.T, d *datadriven.TestData) string {
		var b strings.Builder
		for line := range strings.SplitSeq(d.Input, "\n") {
			var s Size
			var dur Duration
			var err error
			if d.Cmd == "size" {
				err = s.UnmarshalText([]byte(line))
			} else {
				err = dur.UnmarshalText([]byte(line))
			}
			switch {
			case err != nil:
				fmt.Fprintf(&b, "error: %v\n", err)
			case d.Cmd == "size":
				fmt.Fprintf(&b, "%d = %s\n", int64(s), s)
			default:
				fmt.Fprintf(&b, "%d ns = %s\n", int64(dur), dur)
			}
		}
		return b.String()
	})
}

func TestPaths(t *testing.T) {
	got := []string{
		Join("", "a"), Join("a", "b-c_1"), Join("a", "b.c"), Join("", ""), Index("a", 3),
		Concat("plugins.x", "volumes[0].disk"), Concat("plugins.x", ""), Concat("p", "[0]"), Concat("", "a"),
	}
	want := []string{
		"a", "a.b-c_1", `a["b.c"]`, `[""]`, "a[3]",
		"plugins.x.volumes[0].disk", "plugins.x", "p[0]", "a",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestSuggest(t *testing.T) {
	words := []string{"cache", "volumes", "listen", "tls"}
	for in, want := range map[string]string{
		"cahce": "cache", "volume": "volumes", "lisen": "listen", "tsl": "tls", "xyz": "", "gateway": "",
		strings.Repeat("c", 100): "",
	} {
		if got := Suggest(in, words); got != want {
			t.Errorf("Suggest(%q) = %q, want %q", in, got, want)
		}
	}
}

// FuzzDecode: any bytes give issues or a value, and a value that was accepted is accepted
// again after being written.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"name":"a","level":1,"volumes":[{"size":"4KiB"}]}`))
	f.Add([]byte(`{"name":1,"volumes":{},"labels":[],"gateway":"x"}`))
	f.Add([]byte(`[null`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var out volume
		if len(Decode(data, &out)) > 0 {
			return
		}
		again, err := json.Marshal(out)
		if err != nil {
			t.Fatal(err)
		}
		var second volume
		if issues := Decode(again, &second); len(issues) > 0 || second != out {
			t.Fatalf("%s was accepted, but not as %s: %v", data, again, issues)
		}
	})
}
