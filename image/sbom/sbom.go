// Package sbom lists what an image is made of, as an SPDX 2.3 document.
//
// The Go modules are read from the binary itself, so the list is what was linked and not what
// go.mod asks for. The document is deterministic: its only time is that of the commit.
//
// Source: SPDX specification 2.3, JSON; purl specification for package URLs.
package sbom

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"runtime/debug"
	"strings"
	"time"
)

// Image is what the document describes.
type Image struct {
	Version string
	Flavour string
	Time    time.Time // of the commit
	Binary  []byte    // the appliance
	Debian  []Debian  // packages whose files are inside
}

// Debian is one Debian package.
type Debian struct {
	Name, Version string
	SHA256        string // of the .deb, "" when only its file is known
}

type document struct {
	Version       string         `json:"spdxVersion"`
	License       string         `json:"dataLicense"`
	ID            string         `json:"SPDXID"`
	Name          string         `json:"name"`
	Namespace     string         `json:"documentNamespace"`
	Creation      creation       `json:"creationInfo"`
	Packages      []pkg          `json:"packages"`
	Relationships []relationship `json:"relationships"`
}

type creation struct {
	Created  string   `json:"created"`
	Creators []string `json:"creators"`
}

type pkg struct {
	ID        string     `json:"SPDXID"`
	Name      string     `json:"name"`
	Version   string     `json:"versionInfo"`
	Location  string     `json:"downloadLocation"`
	Analyzed  bool       `json:"filesAnalyzed"`
	Checksums []checksum `json:"checksums,omitempty"`
	Refs      []ref      `json:"externalRefs,omitempty"`
}

type checksum struct {
	Algorithm string `json:"algorithm"`
	Value     string `json:"checksumValue"`
}

type ref struct {
	Category string `json:"referenceCategory"`
	Type     string `json:"referenceType"`
	Locator  string `json:"referenceLocator"`
}

type relationship struct {
	Element string `json:"spdxElementId"`
	Type    string `json:"relationshipType"`
	Related string `json:"relatedSpdxElement"`
}

// rootID is the image, which contains everything else.
const rootID = "SPDXRef-Image"

// Document returns the SPDX document of an image.
func Document(im Image) ([]byte, error) {
	root := pkg{ID: rootID, Name: "ratchet-" + im.Flavour, Version: im.Version, Location: "NOASSERTION"}
	d := document{
		Version: "SPDX-2.3", License: "CC0-1.0", ID: "SPDXRef-DOCUMENT",
		Name:      root.Name + "-" + im.Version,
		Namespace: fmt.Sprintf("https://github.com/ratchetos/ratchet/sbom/%s/%s/%x", im.Flavour, im.Version, sha256.Sum256(im.Binary)),
		Creation: creation{
			Created:  im.Time.UTC().Format("2006-01-02T15:04:05Z"),
			Creators: []string{"Tool: ratchet-image-" + im.Version},
		},
		Packages:      []pkg{root},
		Relationships: []relationship{{"SPDXRef-DOCUMENT", "DESCRIBES", rootID}},
	}
	info, err := buildinfo.Read(bytes.NewReader(im.Binary))
	if err != nil {
		return nil, fmt.Errorf("list modules of the binary: %w", err)
	}
	d.add("SPDXRef-Go", "go", strings.TrimPrefix(info.GoVersion, "go"), "pkg:golang/stdlib@"+strings.TrimPrefix(info.GoVersion, "go"), "")
	for _, m := range info.Deps {
		m = effective(m)
		d.add("SPDXRef-Go-"+identifier(m.Path+"-"+m.Version), m.Path, m.Version, "pkg:golang/"+m.Path+"@"+m.Version, "")
	}
	for _, p := range im.Debian {
		purl := fmt.Sprintf("pkg:deb/debian/%s@%s?arch=amd64", p.Name, p.Version)
		d.add("SPDXRef-Debian-"+identifier(p.Name), p.Name, p.Version, purl, p.SHA256)
	}
	b, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write SBOM: %w", err)
	}
	return append(b, '\n'), nil
}

// effective is the module that was linked, which a replace directive may have changed.
func effective(m *debug.Module) *debug.Module {
	for m.Replace != nil {
		m = m.Replace
	}
	return m
}

func (d *document) add(id, name, version, purl, sum string) {
	p := pkg{
		ID: id, Name: name, Version: version, Location: "NOASSERTION",
		Refs: []ref{{"PACKAGE-MANAGER", "purl", purl}},
	}
	if sum != "" {
		p.Checksums = []checksum{{"SHA256", sum}}
	}
	d.Packages = append(d.Packages, p)
	d.Relationships = append(d.Relationships, relationship{rootID, "CONTAINS", id})
}

// identifier turns a name into the letters an SPDX id may have.
func identifier(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' {
			return r
		}
		return '-'
	}, s)
}
