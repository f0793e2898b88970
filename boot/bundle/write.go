package bundle

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
)

// Members in their order.
const (
	manifestName  = "manifest.json"
	signatureName = "manifest.sig"
	sbomName      = "sbom.spdx.json"
	ukiName       = "uki.efi"
)

// Write packs a bundle. manifest is what Encode gave and signature was made over; sbom and uki must be the files it
// names. The result depends on nothing else.
func Write(w io.Writer, manifest, signature, sbom []byte, uki io.Reader) error {
	m, err := ParseManifest(manifest)
	if err != nil {
		return err
	}
	return pack(w, []member{
		{manifestName, int64(len(manifest)), bytes.NewReader(manifest)},
		{signatureName, int64(len(signature)), bytes.NewReader(signature)},
		{sbomName, m.SBOM.Length, newVerifier(bytes.NewReader(sbom), m.SBOM)},
		{ukiName, m.UKI.Length, newVerifier(uki, m.UKI)},
	})
}

// member is one file to pack.
type member struct {
	name string
	size int64
	data io.Reader
}

func pack(w io.Writer, members []member) error {
	t := tar.NewWriter(w)
	for _, f := range members {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: f.name, Size: f.size, Mode: 0o644, Format: tar.FormatUSTAR}
		if err := t.WriteHeader(h); err != nil {
			return fmt.Errorf("write bundle: %s: %w", f.name, err)
		}
		if _, err := io.Copy(t, f.data); err != nil {
			return fmt.Errorf("write bundle: %s: %w", f.name, err)
		}
	}
	if err := t.Close(); err != nil {
		return fmt.Errorf("write bundle: %w", err)
	}
	return nil
}
