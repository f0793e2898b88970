package main

import "testing"

// TestGeneratedFilesAreCurrent fails when a command or a configuration struct was changed
// and "make generate" was not run.
func TestGeneratedFilesAreCurrent(t *testing.T) {
	if err := run("../..", true); err != nil {
		t.Fatal(err)
	}
}
