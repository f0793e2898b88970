package ctl

import (
	"context"
	"errors"
	"io/fs"
	"strings"

	"connectrpc.com/connect"

	"github.com/ratchetos/ratchet/core/api/client"
)

// Exit codes of ratchetctl.
const (
	ExitOK          = 0
	ExitFailed      = 1 // the box said no, or something went wrong
	ExitUsage       = 2 // the command line is wrong
	ExitConfig      = 3 // the configuration has errors
	ExitNotReleased = 4 // the verdict keeps the hardware out of use
	ExitUnreachable = 5 // no answer from the box
)

// exit is an error that knows its code. Without a text, everything has been said.
type exit struct {
	code int
	err  error
}

func (e *exit) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *exit) Unwrap() error { return e.err }

func usage(err error) error { return &exit{ExitUsage, err} }

// outcome turns the error of a command into its exit code and what is printed.
func outcome(err error) (int, string) {
	if err == nil {
		return ExitOK, ""
	}
	if e := (*exit)(nil); errors.As(err, &e) {
		return e.code, e.Error()
	}
	text := err.Error()
	// The code in front of a connect error is for programs; the text says it to people.
	if e := (*connect.Error)(nil); errors.As(err, &e) {
		text = strings.Replace(text, e.Error(), e.Message(), 1)
	}
	switch client.ReasonOf(err) {
	case client.Unreachable:
		if errors.Is(err, fs.ErrPermission) { // the local socket's
			return ExitUnreachable, text + "; use sudo or be of the socket's group, or log in (ratchetctl login …) and name that login with --context"
		}
		return ExitUnreachable, "the box does not answer: " + text
	case client.NotReleased:
		return ExitNotReleased, text + "; see: ratchetctl counter show"
	}
	if errors.Is(err, context.Canceled) {
		return ExitFailed, "interrupted"
	}
	return ExitFailed, text
}
