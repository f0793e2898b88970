package run

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// late names the host that did not carry out an order in the time it had. What to look at there, its port has said.
func late(host, order string, limit time.Duration, err error) error {
	if !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return fmt.Errorf("%s has %v to %s and was not done: %w", host, limit, order, err)
}
