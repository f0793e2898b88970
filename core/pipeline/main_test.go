package pipeline

import (
	"testing"

	"go.uber.org/goleak"
)

// Run returns after everything it called has, so nothing may be left of any test.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
