package run

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"
)

func TestLate(t *testing.T) {
	over, cancel := context.WithCancel(t.Context())
	cancel()
	silent := fmt.Errorf("query-migrate: the host at 192.0.2.11:7440 has not answered: %w", context.DeadlineExceeded)
	refused := errors.New("no such VM")
	for _, c := range []struct {
		name string
		ctx  context.Context
		err  error
		want string
	}{
		{"done", t.Context(), nil, "<nil>"},
		{"refused", t.Context(), refused, "no such VM"},
		{"silent", t.Context(), silent, "a did not tell of the transfer within 10s: query-migrate: the host at 192.0.2.11:7440 has not answered: context deadline exceeded"},
		{"the move itself was stopped", over, silent, silent.Error()},
	} {
		got := late(c.ctx, "a", "tell of the transfer", 10*time.Second, c.err)
		if fmt.Sprint(got) != c.want || !errors.Is(got, c.err) {
			t.Errorf("%s: %v, want %s", c.name, got, c.want)
		}
	}
}
