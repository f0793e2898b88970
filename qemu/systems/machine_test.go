package systems

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/qemu/box"
	"github.com/ratchetos/ratchet/qemu/vm"
)

// A step of a machine that works takes seconds; these limits are for a busy host, and end a test that hangs.
const (
	bootLimit = 5 * time.Minute
	stepLimit = 90 * time.Second
)

// machine is a powered-on box under test.
type machine struct {
	*box.Box
	t testing.TB
}

func boot(t testing.TB, o box.Options) *machine {
	t.Helper()
	if o.Limit == 0 {
		o.Limit = 12 * time.Minute
	}
	b, err := box.Boot(t.Context(), o)
	must(t, err)
	t.Cleanup(func() { b.Close() })
	return &machine{b, t}
}

// verdict waits for init's decision and its reason code.
func (m *machine) verdict(word, code string) string {
	m.t.Helper()
	ctx := within(m.t, bootLimit)
	v, err := m.Verdict(ctx)
	must(m.t, err)
	reason, err := m.ExpectLine(ctx, `ratchet: reason ([a-z-]+): (.*)`)
	must(m.t, err)
	if v.Word != word || reason.Groups[1] != code {
		m.t.Fatalf("verdict %s, reason %s; want %s, %s", v.Line, reason.Groups[0], word, code)
	}
	return v.Line
}

// ready waits until core says that it serves.
func (m *machine) ready() string {
	m.t.Helper()
	line, err := m.Ready(within(m.t, bootLimit))
	must(m.t, err)
	return line
}

// released waits until a box that is released serves.
func (m *machine) released(code string) (verdict string) {
	m.t.Helper()
	verdict = m.verdict("RELEASED", code)
	m.ready()
	return verdict
}

func (m *machine) login() {
	m.t.Helper()
	must(m.t, m.Login(within(m.t, stepLimit)))
}

// ctl runs ratchetctl as its operator does.
func (m *machine) ctl(args ...string) string {
	m.t.Helper()
	out, err := m.Ctl(within(m.t, stepLimit), args...)
	must(m.t, err)
	return string(out)
}

// asks runs a command of ratchetctl that changes nothing, again while the box is too busy to answer.
func (m *machine) asks(args ...string) (out string) {
	m.t.Helper()
	ctx := within(m.t, stepLimit)
	await(m.t, stepLimit, "an answer to ratchetctl "+strings.Join(args, " "), func() (string, bool) {
		b, err := m.Ctl(ctx, args...)
		if err != nil && exitCode(err) != noAnswer {
			m.t.Fatal(err)
		}
		out = string(b)
		return fmt.Sprint(err), err == nil
	})
	return out
}

// noAnswer is ratchetctl's exit code for a box that does not answer.
const noAnswer = 5

// refused runs ratchetctl and wants the box to say no, with all of these words.
func (m *machine) refused(code int, words []string, args ...string) {
	m.t.Helper()
	out, err := m.Ctl(within(m.t, stepLimit), args...)
	if err == nil {
		m.t.Fatalf("ratchetctl %s was not refused: %s", strings.Join(args, " "), out)
	}
	if got := exitCode(err); got != code {
		m.t.Errorf("ratchetctl %s: exit code %d, want %d", strings.Join(args, " "), got, code)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			m.t.Errorf("ratchetctl %s: %q is missing in: %v", strings.Join(args, " "), w, err)
		}
	}
}

// types types a command on the console and waits for a line of its output.
func (m *machine) types(command, pattern string) vm.Match {
	m.t.Helper()
	match, err := m.Type(within(m.t, stepLimit), command, pattern)
	must(m.t, err)
	return match
}

// off shuts the machine down in order.
func (m *machine) off() {
	m.t.Helper()
	m.ctl("power", "off")
	m.ended()
}

// ended waits until the machine has switched itself off.
func (m *machine) ended() {
	m.t.Helper()
	if _, err := m.Wait(within(m.t, stepLimit)); err != nil {
		m.t.Fatal(err)
	}
	must(m.t, m.Close())
}

// counter is what `ratchetctl counter show -o json` says.
type counter struct {
	Counter  string // 64-bit numbers are strings in the protobuf JSON mapping
	Expected string
	Open     string
	Measured struct {
		PCR11      string
		SecureBoot bool `json:"secure_boot"`
		Commands   int
	}
}

func (m *machine) counter() counter {
	m.t.Helper()
	return decode[counter](m.t, []byte(m.asks("counter", "show", "-o", "json")))
}

func (m *machine) counts(want, expected, open string) {
	m.t.Helper()
	if c := m.counter(); c.Counter != want || c.Expected != expected || c.Open != open {
		m.t.Fatalf("counter %s, expected %s, open %s; want %s, %s, %s", c.Counter, c.Expected, c.Open, want, expected, open)
	}
}

// run runs a tool on the host.
func tool(t testing.TB, env []string, name string, args ...string) string {
	t.Helper()
	out, err := command(within(t, stepLimit), env, name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}
