package objstore

import (
	"context"
	"errors"
	"fmt"
	"testing"
)

// away is a store that does not answer, and names what it was asked for.
type away struct{ Store }

func (away) PutIfAbsent(_ context.Context, key string, _ []byte) (string, error) {
	return "", fmt.Errorf("put %s: %w", key, ErrUnavailable)
}

func (away) Delete(context.Context, string) error { return ErrUnavailable }

// TestProbeSaysTheSame: the error of a probe does not change from one to the next while its reason is the same.
func TestProbeSaysTheSame(t *testing.T) {
	for range 2 {
		err := ProbeConditional(t.Context(), away{})
		if !errors.Is(err, ErrUnavailable) || err.Error() != "probe: create: put probe/…: store unavailable" {
			t.Errorf("probe: %v", err)
		}
	}
}
