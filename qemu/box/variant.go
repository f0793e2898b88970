package box

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/ratchetos/ratchet/image/builder"
)

// Variant builds an image that differs from a built one by what o says – version, security version, fault – with the
// same program in it, and an update to it. It returns the path of the update. Flavour and Out are needed.
func Variant(ctx context.Context, image string, o builder.Options) (update string, err error) {
	o.Binary = filepath.Join(image, builder.ApplianceFile)
	if o.Bundle == nil {
		o.Bundle = &builder.BundleOptions{}
	}
	if _, err := o.Build(ctx); err != nil {
		return "", fmt.Errorf("build variant %s of %s: %w", o.Version, image, err)
	}
	return filepath.Join(o.Out, builder.BundleFile), nil
}
