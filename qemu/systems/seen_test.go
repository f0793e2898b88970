package systems

import "testing"

// seen puts a line into the table of `make systems`.
func seen(t *testing.T, format string, args ...any) {
	t.Helper()
	t.Logf(seenPrefix+format, args...)
}
