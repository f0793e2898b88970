package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"
)

func written(t *testing.T, pieces ...string) *Console {
	t.Helper()
	c := newConsole(time.Now(), nil, nil)
	for _, p := range pieces {
		if n, err := c.Write([]byte(p)); n != len(p) || err != nil {
			t.Fatal(n, err)
		}
	}
	return c
}

func texts(c *Console) string {
	var s []string
	for _, l := range c.Lines() {
		s = append(s, l.Text)
	}
	return strings.Join(s, "|")
}

func TestConsoleLines(t *testing.T) {
	for name, tc := range map[string]struct {
		in   []string
		want string
	}{
		"pieces":            {[]string{"on", "e\r\ntw", "o"}, "one|two"},
		"empty lines":       {[]string{"\n\na\n"}, "||a"},
		"colours":           {[]string{"\x1b[1;31mred\x1b[0m\n"}, "red"},
		"cut in a sequence": {[]string{"a\x1b", "[2", "Jb\n"}, "ab"},
		"title":             {[]string{"\x1b]0;title\aa\x1b]0;t\x1b\\b\n"}, "ab"},
		"endless title":     {[]string{"a\x1b]0;lost\nb\n"}, "a|b"},
		"control":           {[]string{"a\x00\x07\tb\x7f\n"}, "a\tb"},
		"UTF-8":             {[]string{"gr\xc3", "\xbcn \xff\n"}, "grün \uFFFD"},
		"long line":         {[]string{strings.Repeat("x", lineLimit+1)}, strings.Repeat("x", lineLimit) + "|x"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := texts(written(t, tc.in...)); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestConsoleExpect(t *testing.T) {
	c := written(t, "a=1 a=2\nb\nlogin")
	find := func(pattern string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		m, err := c.expect(ctx, regexp.MustCompile(pattern))
		if err != nil {
			return err.Error()
		}
		return fmt.Sprint(m.Groups)
	}
	// The order matters: each search starts behind the one before.
	for _, step := range [][2]string{
		{`a=(\d)`, "[a=1 1]"},
		{`a=(\d)`, "[a=2 2]"},
		{`^b(x)?$`, "[b ]"},
		{`log`, "[log]"}, // the line is not finished yet
		{`in`, "[in]"},
		{``, "[]"}, // an empty match is found once …
	} {
		if got := find(step[0]); got != step[1] {
			t.Fatalf("%q: got %s, want %s", step[0], got, step[1])
		}
	}
	fmt.Fprint(c, "\nnext\n")
	if got := find(`.+`); got != "[next]" { // … and the search goes on behind its line
		t.Fatalf("got %s", got)
	}
	late := make(chan string)
	whole := make(chan string)
	fmt.Fprint(c, "to the ")
	go func() {
		m, err := c.await(t.Context(), regexp.MustCompile(`to(.*)`), false)
		whole <- fmt.Sprint(m.Groups, err)
	}()
	fmt.Fprint(c, "end\n")
	if got := <-whole; got != "[to the end  the end] <nil>" {
		t.Fatalf("got %s", got)
	}
	go func() { late <- find(`later`) }()
	fmt.Fprint(c, "la")
	fmt.Fprint(c, "ter")
	if got := <-late; got != "[later]" {
		t.Fatalf("got %s", got)
	}
	go func() { late <- find(`never`) }()
	c.Close()
	if got := <-late; got != errConsoleClosed.Error() {
		t.Fatalf("got %s", got)
	}
}

func TestConsoleExpectEndsWithContext(t *testing.T) {
	why := errors.New("why")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	if _, err := written(t, "x\n").expect(ctx, regexp.MustCompile("y")); !errors.Is(err, why) {
		t.Fatalf("got %v", err)
	}
}

func TestConsoleForgetsOldLines(t *testing.T) {
	var file bytes.Buffer
	c := newConsole(time.Now(), &file, nil)
	line := strings.Repeat("x", lineLimit-1) + "\n"
	const lines = 2*consoleKeep/lineLimit + 10
	for range lines {
		fmt.Fprint(c, line)
	}
	if c.size > consoleKeep || len(c.Lines()) >= lines {
		t.Errorf("%d lines, %d bytes kept", len(c.Lines()), c.size)
	}
	if got := strings.Count(file.String(), "\n"); got != lines {
		t.Errorf("%d lines in the file, want %d", got, lines)
	}
	fmt.Fprint(c, "last\n")
	if _, err := c.expect(t.Context(), regexp.MustCompile("^last$")); err != nil {
		t.Error(err)
	}
}

// FuzzConsole: whatever a guest prints, in whatever pieces, the lines hold no control characters, and how it was cut
// makes no difference.
func FuzzConsole(f *testing.F) {
	f.Add([]byte("plain\r\n\x1b[2J\x1b]0;x\a\xc3\xbc\x1b"), 3)
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		cut = max(0, min(cut, len(b)))
		whole, parts := written(t, string(b)), written(t, string(b[:cut]), string(b[cut:]))
		if a, b := texts(whole), texts(parts); a != b {
			t.Fatalf("whole %q, in parts %q", a, b)
		}
		for _, l := range whole.Lines() {
			if strings.ContainsFunc(l.Text, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
				t.Fatalf("control character in %q", l.Text)
			}
		}
	})
}
