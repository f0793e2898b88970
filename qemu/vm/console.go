package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// Line is one line of console output.
type Line struct {
	// At is the host time since Start at which the line began to arrive.
	At time.Duration
	// Text has no line end and no terminal control sequences.
	Text string
}

func (l Line) String() string { return fmt.Sprintf("%8.3f %s", l.At.Seconds(), l.Text) }

// Match is what Expect found.
type Match struct {
	Line
	// Groups are the expression's match and submatches, as regexp.FindStringSubmatch gives them.
	Groups []string
}

const (
	consoleKeep = 8 << 20 // bytes of text kept in memory; older lines remain in the file
	lineLimit   = 4096    // longer lines are broken
	contextTail = 40      // lines shown with an error
)

// errConsoleClosed ends a wait for output that can no longer come.
var errConsoleClosed = errors.New("the machine ended")

// Console collects serial output. It is an io.Writer; Close marks the end of output.
type Console struct {
	start time.Time
	file  io.Writer // stamped lines; may be nil
	raw   io.Writer // as it comes; may be nil

	mu        sync.Mutex
	clean     cleaner
	lines     []Line // complete ones
	dropped   int    // lines that were removed from the front of lines
	size      int
	partial   []byte // the line being received
	partialAt time.Duration
	changed   chan struct{} // closed and replaced at every change
	closed    bool
	// Expect's cursor: line number since the start, and offset within that line.
	cursorLine, cursorByte int
}

var _ io.WriteCloser = (*Console)(nil)

func newConsole(start time.Time, file, raw io.Writer) *Console {
	return &Console{start: start, file: file, raw: raw, changed: make(chan struct{})}
}

// Write takes output in. It never fails: a full disk must not stop the machine whose end it would hide.
func (c *Console) Write(p []byte) (int, error) {
	if c.raw != nil {
		_, _ = c.raw.Write(p)
	}
	now := time.Since(c.start)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, b := range c.clean.feed(p) {
		if b == '\n' {
			c.endLine(now)
			continue
		}
		if len(c.partial) == 0 {
			c.partialAt = now
		}
		c.partial = append(c.partial, b)
		if len(c.partial) >= lineLimit {
			c.endLine(now)
		}
	}
	c.wake()
	return len(p), nil
}

// Close ends waits that can no longer succeed. A last line without an end counts as a line.
func (c *Console) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed && len(c.partial) > 0 {
		c.endLine(time.Since(c.start))
	}
	c.closed = true
	c.wake()
	return nil
}

func (c *Console) wake() {
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *Console) endLine(now time.Duration) {
	if len(c.partial) == 0 {
		c.partialAt = now
	}
	l := c.unfinished()
	c.partial = c.partial[:0]
	if c.file != nil {
		_, _ = fmt.Fprintln(c.file, l)
	}
	c.lines = append(c.lines, l)
	c.size += len(l.Text)
	for c.size > consoleKeep {
		c.size -= len(c.lines[0].Text)
		c.lines = c.lines[1:]
		c.dropped++
	}
}

func (c *Console) unfinished() Line {
	return Line{At: c.partialAt, Text: strings.ToValidUTF8(string(c.partial), "\uFFFD")}
}

// Lines returns a copy of what is kept, the unfinished last line included.
func (c *Console) Lines() []Line {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := append([]Line(nil), c.lines...)
	if len(c.partial) > 0 {
		l = append(l, c.unfinished())
	}
	return l
}

// tail formats the last lines for an error message.
func (c *Console) tail() string {
	l := c.Lines()
	l = l[max(0, len(l)-contextTail):]
	if len(l) == 0 {
		return "the console is empty"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "last %d console lines:", len(l))
	for _, line := range l {
		b.WriteString("\n\t" + line.String())
	}
	return b.String()
}

// contains tells whether a complete line has text.
func (c *Console) contains(text string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.ContainsFunc(c.lines, func(l Line) bool { return strings.Contains(l.Text, text) })
}

// expect returns the first match behind the cursor and moves the cursor behind it. Lines are matched one by one;
// the unfinished last line is matched too, so that a prompt can be waited for.
func (c *Console) expect(ctx context.Context, re *regexp.Regexp) (Match, error) {
	return c.await(ctx, re, true)
}

// await is expect that may leave the unfinished line alone, for expressions that take a line to its end.
func (c *Console) await(ctx context.Context, re *regexp.Regexp, unfinished bool) (Match, error) {
	for {
		c.mu.Lock()
		m, ok := c.search(re, unfinished)
		changed, closed := c.changed, c.closed
		c.mu.Unlock()
		switch {
		case ok:
			return m, nil
		case closed:
			return Match{}, errConsoleClosed
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return Match{}, context.Cause(ctx)
		}
	}
}

// search looks behind the cursor and moves it over every complete line without a match.
func (c *Console) search(re *regexp.Regexp, unfinished bool) (Match, bool) {
	if c.cursorLine < c.dropped {
		c.cursorLine, c.cursorByte = c.dropped, 0
	}
	for ; c.cursorLine < c.dropped+len(c.lines); c.cursorLine, c.cursorByte = c.cursorLine+1, 0 {
		if m, ok := c.match(re, c.lines[c.cursorLine-c.dropped]); ok {
			return m, true
		}
	}
	// An empty match may have moved the cursor past the unfinished line already.
	if unfinished && c.cursorLine == c.dropped+len(c.lines) && len(c.partial) > 0 {
		return c.match(re, c.unfinished())
	}
	return Match{}, false
}

// match looks at the rest of the cursor's line.
func (c *Console) match(re *regexp.Regexp, line Line) (Match, bool) {
	// The line was shorter than the cursor says if its last bytes were half a character then.
	rest := line.Text[min(c.cursorByte, len(line.Text)):]
	at := re.FindStringSubmatchIndex(rest)
	if at == nil {
		return Match{}, false
	}
	if at[1] == 0 {
		c.cursorLine, c.cursorByte = c.cursorLine+1, 0 // an empty match must not be found for ever
	} else {
		c.cursorByte += at[1]
	}
	return Match{Line: line, Groups: groups(rest, at)}, true
}

func groups(s string, at []int) []string {
	g := make([]string, len(at)/2)
	for i := range g {
		if at[2*i] >= 0 {
			g[i] = s[at[2*i]:at[2*i+1]]
		}
	}
	return g
}

// cleaner removes terminal control from a byte stream: escape sequences (ECMA-48) and control characters other
// than tab and newline. Firmware menus are full of them and no expression should have to know.
type cleaner struct{ state cleanState }

type cleanState int

const (
	plain    cleanState = iota
	escaped             // behind ESC
	sequence            // in a control sequence, until a byte in @–~
	command             // in an operating system command, until BEL or ESC \
)

func (c *cleaner) feed(p []byte) []byte {
	var out bytes.Buffer
	for _, b := range p {
		if b == '\n' {
			c.state = plain // a sequence that never ends may hide the rest of its line, not of the log
		}
		switch c.state {
		case escaped:
			switch b {
			case '[':
				c.state = sequence
			case ']':
				c.state = command
			default:
				c.state = plain
			}
		case sequence:
			if b >= '@' && b <= '~' {
				c.state = plain
			}
		case command:
			switch b {
			case '\a':
				c.state = plain
			case '\x1b':
				c.state = escaped // the backslash that follows ends both
			}
		default:
			switch {
			case b == '\x1b':
				c.state = escaped
			case b == '\n' || b == '\t' || b >= ' ' && b != 0x7f:
				out.WriteByte(b)
			}
		}
	}
	return out.Bytes()
}
