package run

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// late names the host that has not done an order in the time it had; what to look at there, its port says. ctx is what the
// limit was taken from: when that itself has ended, the host is not to blame.
func late(ctx context.Context, host, order string, limit time.Duration, err error) error {
	if ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return fmt.Errorf("%s did not %s within %v: %w", host, order, limit, err)
}
