package host

import (
	"os"
	"path/filepath"
	"testing"
)

func TestImpassable(t *testing.T) {
	root := t.TempDir()
	private := filepath.Join(root, "private")
	deep := filepath.Join(private, "open", "run")
	if err := os.MkdirAll(deep, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{root, filepath.Dir(root)} { // both made by TempDir, for us alone
		if err := os.Chmod(dir, 0o711); err != nil {
			t.Fatal(err)
		}
	}
	if at := impassable(deep); at != "" {
		t.Fatalf("%s is said to be in the way", at)
	}
	if err := os.Chmod(private, 0o700); err != nil {
		t.Fatal(err)
	}
	if at := impassable(deep); at != private {
		t.Errorf("got %q, want %q", at, private)
	}
}
