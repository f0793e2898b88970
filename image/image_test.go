package main

import (
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/ratchetos/ratchet/image/builder"
	"github.com/ratchetos/ratchet/image/internal/imagetest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"image": main})
}

// TestScripts runs the command as an operator would, on an image with a kernel of a few bytes.
func TestScripts(t *testing.T) {
	image, config := sample(t)
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			e.Setenv("IMAGE", image)
			e.Setenv("XDG_CONFIG_HOME", config)
			return nil
		},
	})
}

// sample builds the image; its development keys are where XDG_CONFIG_HOME says.
func sample(t *testing.T) (image, config string) {
	t.Helper()
	config = t.TempDir()
	o := imagetest.Options(t)
	o.KeyDir, o.Bundle = filepath.Join(config, "ratchet", "keys"), &builder.BundleOptions{}
	if _, err := o.Build(t.Context()); err != nil {
		t.Fatal(err)
	}
	return o.Out, config
}
