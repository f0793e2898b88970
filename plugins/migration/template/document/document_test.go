package document

import (
	"errors"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/ratchetos/ratchet/core/config/strict"
	"github.com/ratchetos/ratchet/plugins/migration/model"
	"github.com/ratchetos/ratchet/plugins/migration/template"
)

var rewrite = flag.Bool("rewrite", false, "write testdata anew")

// TestMistakes: all of them at once, each at its line.
func TestMistakes(t *testing.T) {
	text, err := os.ReadFile("testdata/bad.yaml")
	if err != nil {
		t.Fatal(err)
	}
	_, err = Parse("bad.yaml", text)
	var bad *Error
	if !errors.As(err, &bad) {
		t.Fatalf("got %v", err)
	}
	if *rewrite {
		if err := os.WriteFile("testdata/bad.txt", []byte(bad.Detail()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/bad.txt")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), bad.Detail()); diff != "" {
		t.Error(diff)
	}
}

// TestManual: what the manual shows is a template.
func TestManual(t *testing.T) {
	text, err := os.ReadFile("../../../../configs/migration-template.yaml")
	if err != nil {
		t.Fatal(err)
	}
	got, err := Parse("migration-template.yaml", text)
	if err != nil {
		t.Fatal(err)
	}
	if got.Name != "web-to-large" || got.Type.VCPUs != 4 || got.Waves.Canary != 1 {
		t.Errorf("%+v", got)
	}
}

// TestRenderedIsRead: what FromAgents writes is read back as it was meant, whatever names hypervisors and guests report.
func TestRenderedIsRead(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		names := rapid.SliceOfN(rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"yes", "0x10", "1e3", "- a", "a: b", "#", "null", "~", "2001-01-01", "=", ".inf"})), 0, 4)
		nonEmpty := rapid.Map(names, func(list []string) (out []string) {
			for _, s := range list {
				if s != "" {
					out = append(out, s)
				}
			}
			return out
		})
		want := model.Template{
			Version: 1, Name: "t", Description: rapid.String().Draw(rt, "description"),
			Select: model.Selector{
				All: true, VMs: nonEmpty.Draw(rt, "vms"), Except: nonEmpty.Draw(rt, "except"), Hosts: nonEmpty.Draw(rt, "hosts"),
				Labels: rapid.MapOfN(rapid.StringN(1, 8, -1), rapid.String(), 0, 3).Draw(rt, "labels"), Types: nonEmpty.Draw(rt, "types"),
			},
			Type: model.VMType{
				Name: rapid.String().Draw(rt, "type"), VCPUs: rapid.IntRange(0, 64).Draw(rt, "vcpus"),
				Memory: strict.Size(rapid.Int64Range(0, 1<<40).Draw(rt, "memory")), Require: model.Constraints{Features: nonEmpty.Draw(rt, "features")},
			},
			Place:    model.Placement{Hosts: nonEmpty.Draw(rt, "place"), Policy: "pack", KeepMemory: 1 << 30},
			Goal:     model.Goal{MaxGap: strict.Duration(rapid.Int64Range(0, 60e9).Draw(rt, "gap")), AllowPostCopy: rapid.Bool().Draw(rt, "post-copy")},
			Priority: rapid.IntRange(-100, 100).Draw(rt, "priority"), Hooks: model.Hooks{Before: []string{"a"}},
			Waves: model.Waves{Canary: 1, Pause: 90e9}, Failures: model.Failures{Percent: 10},
		}
		draft := template.Draft{
			Template: want, Notes: nonEmpty.Draw(rt, "notes"),
			Changes: []template.Suggestion{{Key: "nic", Value: rapid.String().Draw(rt, "value"), Why: rapid.String().Draw(rt, "why")}},
		}
		text := template.Render(draft)
		got, err := Parse("t", []byte(text))
		if err != nil {
			rt.Fatalf("%v\n%s", err, text)
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			rt.Fatalf("%s\n%s", diff, text)
		}
	})
}

// FuzzParse: a document is read or refused with a place; what is read can be written and read again.
func FuzzParse(f *testing.F) {
	for _, name := range []string{"testdata/bad.yaml", "../../../../configs/migration-template.yaml"} {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := Parse("f", text)
		if err != nil {
			if err.Error() == "" {
				t.Error("refused without a word")
			}
			return
		}
		again, err := Parse("f", []byte(template.Render(template.Draft{Template: got})))
		if err != nil {
			t.Fatalf("what was read cannot be read again: %v", err)
		}
		if diff := cmp.Diff(got, again, cmpopts.EquateEmpty()); diff != "" {
			t.Error(diff)
		}
	})
}

// TestSuggestionsCanBeUncommented: the lines that FromAgents leaves to the operator are right as they stand.
func TestSuggestionsCanBeUncommented(t *testing.T) {
	can := []model.Capability{
		{Name: model.CanCPUHotplug, State: model.Ready},
		{Name: model.CanDIMM, State: model.Ready},
		{Name: model.CanMoveNIC, State: model.Ready},
		{Name: model.CanDriver + "e1000", State: model.CanBeGiven},
	}
	draft, err := template.FromAgents("t", []template.VM{{
		Name:  "web",
		Guest: &model.Guest{Can: can},
		Shape: model.Shape{MaxVCPUs: 4, Memory: model.Memory{Boot: 1 << 30, Max: 4 << 30, Slots: 2}, NICs: []model.NIC{{Model: "virtio-net-pci"}}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(template.Render(draft), "\n# ", "\n")
	got, err := Parse("t", []byte(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	want := model.VMType{VCPUs: 4, Memory: 4 << 30, NIC: "e1000"}
	if diff := cmp.Diff(want, got.Type); diff != "" {
		t.Errorf("%s\n%s", diff, text)
	}
}
