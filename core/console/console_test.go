package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestServe(t *testing.T) {
	run := func(ctx context.Context, args []string, out io.Writer) error {
		switch args[0] {
		case "fail":
			return errors.New("no such thing")
		case "follow":
			<-ctx.Done()
			return ctx.Err()
		}
		fmt.Fprintf(out, "ran %q\n", args)
		return nil
	}
	for name, tc := range map[string]struct{ in, want string }{
		"with and without the word":   {"ratchetctl counter show\ncounter show\n", "ran [\"counter\" \"show\"]\nran [\"counter\" \"show\"]\n"},
		"hint":                        {"\n  \nratchetctl\n", strings.Repeat(Hint+"\n", 3)},
		"a failure is not the end":    {"fail\nstatus\n", "fail: no such thing\nran [\"status\"]\n"},
		"a command without an end":    {"follow\nstatus\n", "follow: stopped after 1ms\nran [\"status\"]\n"},
		"a line without an end":       {"status", "ran [\"status\"]\n"},
		"a line that is far too long": {strings.Repeat("x", 1<<17), ""},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			limit := time.Minute
			if strings.Contains(tc.in, "follow") {
				limit = time.Millisecond
			}
			Serve(t.Context(), Options{In: strings.NewReader(tc.in), Out: &out, Run: run, Limit: limit})
			if out.String() != tc.want {
				t.Errorf("got\n%s\nwant\n%s", out.String(), tc.want)
			}
		})
	}
}

func TestServeEndsWithItsContext(t *testing.T) {
	in, w := io.Pipe()
	defer w.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	Serve(ctx, Options{In: in, Out: io.Discard})
}

// terminal is one opening of a console.
type terminal struct {
	io.Reader
	io.Writer
}

func (terminal) Close() error { return nil }

// TestKeep: a console whose input ended takes commands again, and one that cannot be opened is tried again.
func TestKeep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		inputs := []string{"one\n", "", "-", "two\n"} // read, ^D, cannot be opened, read
		var ran []string
		Keep(ctx, func() (io.ReadWriteCloser, error) {
			if len(inputs) == 0 {
				cancel()
				return nil, errors.New("the test is over")
			}
			in := inputs[0]
			inputs = inputs[1:]
			if in == "-" {
				return nil, errors.New("no such device")
			}
			return terminal{strings.NewReader(in), io.Discard}, nil
		}, Options{Run: func(_ context.Context, args []string, _ io.Writer) error {
			ran = append(ran, args...)
			return nil
		}})
		if got := strings.Join(ran, " "); got != "one two" {
			t.Errorf("ran %q", got)
		}
	})
}

func TestProgram(t *testing.T) {
	script := filepath.Join(t.TempDir(), "ratchet")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho \"$@\"\nexit 4\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	// Exit codes are for scripts; the console has shown what the command said.
	if err := Program(script, "unix:/run/api.sock")(t.Context(), []string{"counter", "show"}, &out); err != nil {
		t.Fatal(err)
	}
	if want := "ctl --address unix:/run/api.sock counter show\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
	if err := Program(script+"x", "")(t.Context(), nil, io.Discard); err == nil {
		t.Error("a missing program is no error")
	}
}
