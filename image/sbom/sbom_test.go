package sbom

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"
)

// TestDocument lists the test binary itself.
func TestDocument(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	binary, err := os.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	im := Image{
		Version: "v1.2.3", Flavour: "full", Time: time.Unix(1700000000, 0), Binary: binary,
		Debian: []Debian{{"linux-image-9.9-test", "9.9-1", strings.Repeat("ab", 32)}, {Name: "systemd-boot-efi", Version: "252"}},
	}
	one, err := Document(im)
	if err != nil {
		t.Fatal(err)
	}
	two, err := Document(im)
	if err != nil || !bytes.Equal(one, two) {
		t.Errorf("two documents of one image differ (%v)", err)
	}
	var d document
	if err := json.Unmarshal(one, &d); err != nil {
		t.Fatal(err)
	}
	if d.Version != "SPDX-2.3" || d.Creation.Created != "2023-11-14T22:13:20Z" {
		t.Errorf("header %s %s", d.Version, d.Creation.Created)
	}
	ids := map[string]bool{d.ID: true}
	for _, p := range d.Packages {
		if ids[p.ID] {
			t.Errorf("id %s is there twice", p.ID)
		}
		ids[p.ID] = true
	}
	for _, r := range d.Relationships {
		if !ids[r.Element] || !ids[r.Related] {
			t.Errorf("relationship of unknown elements: %+v", r)
		}
	}
	for _, want := range []string{"pkg:golang/stdlib@1.", "pkg:deb/debian/linux-image-9.9-test@9.9-1?arch=amd64", strings.Repeat("ab", 32)} {
		if !bytes.Contains(one, []byte(want)) {
			t.Errorf("no %q in the document", want)
		}
	}
	if _, err := Document(Image{Binary: []byte("not Go")}); err == nil {
		t.Error("a binary without build information has no list of modules, and no error")
	}
}
