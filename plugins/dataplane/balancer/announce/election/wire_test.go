package election

import (
	"bytes"
	"testing"
)

// FuzzParseWord: what is read is written again byte for byte.
func FuzzParseWord(f *testing.F) {
	f.Add(Word{Beat: Beat{Name: "a", Priority: 7, Active: true, Term: 1 << 40}, Key: 5, Stream: 6}.Append(nil))
	f.Add(Word{Beat: Beat{Name: "b", Ready: true}}.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if w, err := ParseWord(b); err == nil && !bytes.Equal(w.Append(nil), b) {
			t.Errorf("%x is read as %+v and written as %x", b, w, w.Append(nil))
		}
	})
}
