package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// editedFile is of the plugin with the most code; its summary ends up in the binary.
const (
	editedFile = "plugins/gateway/feature.go"
	editedMark = `Summary: "`
)

// editPlugin changes one line of a plugin in a copy of the tree, each run to something else.
func editPlugin(tree string, run int) error {
	path := filepath.Join(tree, editedFile)
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	edited, err := changeLine(text, run)
	if err != nil {
		return fmt.Errorf("edit %s: %w", path, err)
	}
	return os.WriteFile(path, edited, 0o644)
}

// changeLine puts the number of the run at the beginning of the plugin's summary.
func changeLine(text []byte, run int) ([]byte, error) {
	before, after, found := bytes.Cut(text, []byte(editedMark))
	if !found {
		return nil, fmt.Errorf("no line with %s", editedMark)
	}
	return fmt.Appendf(nil, "%s%s%d %s", before, editedMark, run, after), nil
}

// copyTracked copies the files that git knows, as they are in the working tree, so that a measurement which edits
// them leaves the checkout alone.
func copyTracked(ctx context.Context, to, from string) error {
	cmd := exec.CommandContext(ctx, "git", "ls-files", "-z")
	cmd.Dir = from
	list, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("list the files of %s with git: %w (a figure is about a commit; measure in a clone)", from, err)
	}
	for name := range strings.SplitSeq(strings.TrimRight(string(list), "\x00"), "\x00") {
		err := copyFile(filepath.Join(to, name), filepath.Join(from, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // removed, but not committed yet
			return err
		}
	}
	return nil
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	st, err := in.Stat()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, st.Mode().Perm())
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
