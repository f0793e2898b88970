package bench

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

func TestRecordLine(t *testing.T) {
	for _, c := range []struct {
		name string
		f    Figure
		want string
	}{
		{"image.uki", Figure{Value: 21.54, Unit: "MiB", Goal: "<= 24"}, "bench image.uki 21.5 MiB (goal <= 24)\n"},
		{"core.restart", Figure{Value: 0.5, Unit: "ratio", Goal: "<= 0.60", Peer: "nbdkit-file"}, "bench core.restart 0.500 ratio (goal <= 0.60, peer nbdkit-file)\n"},
		{"boot.commands", Figure{Value: 24, Unit: "commands"}, "bench boot.commands 24 commands\n"},
	} {
		var out bytes.Buffer
		(&Recorder{Out: &out}).Record(c.name, c.f)
		if out.String() != c.want {
			t.Errorf("%s: got %q, want %q", c.name, out.String(), c.want)
		}
	}
}

func TestSaveMergesAreas(t *testing.T) {
	path := filepath.Join(t.TempDir(), "build", "bench.json")
	for _, name := range []string{"a.x", "b.y"} {
		r := Recorder{Out: &bytes.Buffer{}, Commit: "abc"}
		r.Record(name, Figure{Value: 1, Unit: "s"})
		if err := r.Save(path); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]Figure
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got["a.x"].Commit != "abc" {
		t.Errorf("saved %v, want both areas with their commit", got)
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		in   []float64
		want float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{5, 1, 3}, 3}, {[]float64{4, 1, 3, 2}, 2.5}} {
		if got := Median(c.in); got != c.want {
			t.Errorf("Median(%v) = %v, want %v", c.in, got, c.want)
		}
	}
}
