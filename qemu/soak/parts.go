package soak

import (
	"context"
	"errors"
	"fmt"
)

// part is a test of a package, done many times over in slices. None are done of a part whose n is zero.
type part struct {
	pkg string
	slicing
}

// parts does one after the other. What goes wrong in one of them does not keep the others from being done.
func parts(ctx context.Context, o Options, list ...part) (results []tally, err error) {
	var errs []error
	for _, p := range list {
		if p.n <= 0 {
			continue
		}
		suite, err := compile(ctx, o, p.pkg)
		if err != nil {
			return results, errors.Join(append(errs, err)...)
		}
		t, err := suite.sliced(ctx, o, p.slicing)
		if ctx.Err() != nil {
			return results, err
		}
		errs = append(errs, err)
		results = append(results, t)
		fmt.Fprintln(o.Out, t)
	}
	return results, errors.Join(errs...)
}

// some is one in so many of n, and one at least of any.
func some(n, oneIn int) int {
	if n <= 0 {
		return 0
	}
	return max(n/oneIn, 1)
}
