package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/ratchetos/ratchet/boot/bundle"
	"github.com/ratchetos/ratchet/image/builder"
	"github.com/ratchetos/ratchet/image/keys"
	"github.com/ratchetos/ratchet/image/sign"
)

// verification is what `image verify` is told.
type verification struct {
	cert, bundleKey, manifest string
	ring                      string
	development, rehearsal    bool
}

func newVerify() *cobra.Command {
	var v verification
	cmd := &cobra.Command{
		Use:   "verify FILE",
		Short: "Check the signatures, predicted PCR 11 and policy of a UKI, a disk image or an update",
		Long: "Check a UKI, both slots of a disk image (plain or zstd) or an update: signed by the certificate, the\n" +
			"TPM policy signed for the PCR 11 that the image will have, PCR 11 as the manifest beside it says, and\n" +
			"a policy fit for a release. Exit status 1 when anything is not.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := v.check(args[0])
			if err != nil {
				return err
			}
			r, err := builder.Inspect(args[0])
			if err != nil {
				return err
			}
			if err := builder.Verify(r, c); err != nil {
				return fmt.Errorf("%s is refused:\n%w", args[0], err)
			}
			i := r.Images[0]
			kind := "release"
			if i.Policy.Development {
				kind = "DEVELOPMENT image"
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: ok, %s %s (%s, security version %d), signed by %q, pcr11 %s\n",
				args[0], kind, i.Policy.Version, i.Policy.Flavour, i.Policy.SecurityVersion, c.Cert.Subject.CommonName, i.PCR11)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&v.cert, "cert", "", "PEM certificate that must have signed it")
	f.StringVar(&v.bundleKey, "bundle-key", "", "PEM public key that must have signed an update")
	f.StringVar(&v.ring, "keys", "", "folder of keys to take both from")
	f.StringVar(&v.manifest, "manifest", "", "image.json of the build (default: the one beside FILE)")
	f.BoolVar(&v.development, "development", false, "accept a development image (default keys: the development ones)")
	f.BoolVar(&v.rehearsal, "development-keys", false, "accept a release that development keys signed")
	cmd.MarkFlagsMutuallyExclusive("cert", "keys")
	return cmd
}

// check gathers the keys; all but the first error of each are about what the caller named.
func (v verification) check(image string) (c builder.Check, err error) {
	c.Development, c.DevelopmentKeys = v.development, v.rehearsal
	ring := keys.Ring{Dir: v.ring}
	switch {
	case v.cert != "":
		c.Cert, err = sign.LoadCert(v.cert)
	case v.ring == "" && !v.development && !v.rehearsal:
		return c, errors.New("verify: name the certificate of the release with --cert, or its keys with --keys (or check a development image with --development)")
	case v.ring == "":
		if ring, _, err = keys.Development(""); err != nil {
			return c, err
		}
		fallthrough
	default:
		c.Cert, err = ring.Certificate(keys.SecureBoot)
	}
	if err != nil {
		return c, err
	}
	if c.BundleKeys, err = v.bundleKeys(ring); err != nil {
		return c, err
	}
	c.Manifest, err = findManifest(v.manifest, image)
	return c, err
}

// bundleKeys are those that were named, or the ring's; none is fine until there is an update.
func (v verification) bundleKeys(ring keys.Ring) (bundle.Keys, error) {
	if v.bundleKey != "" {
		text, err := os.ReadFile(v.bundleKey)
		if err != nil {
			return nil, fmt.Errorf("verify: %w", err)
		}
		return bundle.ParseKeys([]string{string(text)})
	}
	if ring.Dir == "" || !ring.Has(keys.Bundle) {
		return nil, nil
	}
	texts, err := ring.TrustedPEM(keys.Bundle)
	if err != nil {
		return nil, err
	}
	return bundle.ParseKeys(texts)
}

// findManifest reads the manifest that was named, or the one beside the image if there is one.
func findManifest(name, image string) (*builder.Manifest, error) {
	path := name
	if path == "" {
		path = filepath.Join(filepath.Dir(image), builder.ManifestFile)
	}
	m, err := builder.ReadManifest(path)
	if name == "" && errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &m, nil
}
