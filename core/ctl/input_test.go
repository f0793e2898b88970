package ctl

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
)

// TestInputIsInterrupted: ^C ends a command that waits for its standard input.
func TestInputIsInterrupted(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	in, w := io.Pipe()
	defer w.Close()
	a := &App{In: input{ctx, in}}
	go func() {
		_, _ = io.Copy(w, strings.NewReader("version: 1\n")) // returns when it has been read
		interrupt()
	}()
	if _, err := a.readFile("-"); !errors.Is(err, context.Canceled) {
		t.Errorf("read: %v", err)
	}
	if data, err := (&App{In: input{t.Context(), strings.NewReader("version: 1\n")}}).readFile("-"); err != nil || string(data) != "version: 1\n" {
		t.Errorf("read %q: %v", data, err)
	}
}
