package catalogue

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ratchetos/ratchet/configs"
)

func TestEmbeddedIsTheDocument(t *testing.T) {
	want, err := Table(configs.Hardware)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(table)); diff != "" {
		t.Errorf("run go generate ./hw/catalogue (-want +got):\n%s", diff)
	}
	fromYAML, err := Load(configs.Hardware)
	if err != nil {
		t.Fatal(err)
	}
	embedded, err := Embedded()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(fromYAML, embedded, cmp.AllowUnexported(Catalogue{}, Entry{}, ref{})); diff != "" {
		t.Error(diff)
	}
}

func BenchmarkRead(b *testing.B) {
	for name, read := range map[string]func() (*Catalogue, error){
		"yaml": func() (*Catalogue, error) { return Load(configs.Hardware) }, "embedded": Embedded,
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := read(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
