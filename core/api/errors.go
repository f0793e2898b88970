package api

import (
	"context"
	"errors"

	"connectrpc.com/connect"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ratchetos/ratchet/core/api/pki"
)

// ReasonHeader tells failures with the same code apart, for the exit code of ratchetctl.
const (
	ReasonHeader      = "Ratchet-Reason"
	ReasonNotReleased = "not-released"
)

// wire gives an error its code on the wire. The text is passed on as it is.
func wire(err error) error {
	var already *connect.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &already):
		return already
	case errors.Is(err, ErrNotReleased):
		e := connect.NewError(connect.CodeFailedPrecondition, err)
		e.Meta().Set(ReasonHeader, ReasonNotReleased)
		return e
	}
	return connect.NewError(code(err), err)
}

func code(err error) connect.Code {
	for _, c := range []struct {
		err  error
		code connect.Code
	}{
		{ErrNotFound, connect.CodeNotFound},
		{ErrInvalid, connect.CodeInvalidArgument},
		{ErrPrecondition, connect.CodeFailedPrecondition},
		{ErrUnavailable, connect.CodeAborted}, // "unavailable" is for a box that does not answer at all
		{pki.ErrToken, connect.CodeUnauthenticated},
		{pki.ErrBusy, connect.CodeResourceExhausted},
		{context.DeadlineExceeded, connect.CodeDeadlineExceeded},
		{context.Canceled, connect.CodeCanceled},
	} {
		if errors.Is(err, c.err) {
			return c.code
		}
	}
	switch c := status.Code(err); c { // of a plugin
	case codes.Unavailable:
		return connect.CodeAborted
	case codes.Aborted, codes.Canceled, codes.DeadlineExceeded:
		return connect.Code(c)
	}
	return connect.CodeInternal
}
