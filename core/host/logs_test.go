package host

import "testing"

// TestLinesInOrder: whoever follows a log goes on behind the time of the last line that was seen, so lines of two processes
// that are read side by side have times in their order.
func TestLinesInOrder(t *testing.T) {
	var r ring
	first, second := r.line(1, []byte("first")), r.line(2, []byte("second"))
	r.add(second)
	r.add(first)
	if got := r.last(0); !got[1].Time.After(got[0].Time) {
		t.Errorf("line %q came after %q: %s, %s", got[1].Text, got[0].Text, got[1].Time, got[0].Time)
	}
}
