package recovery

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/ratchetos/ratchet/boot/verdict"
)

const key = "AAAA-BBBB"

// bench is a Box that a script describes; it notes what was asked of it.
type bench struct {
	s      Status
	fails  map[string]error // by command
	heals  bool             // what is done releases the box
	called []string
}

func (b *bench) did(what string, args ...string) (string, error) {
	b.called = append(b.called, strings.TrimSpace(what+" "+strings.Join(args, " ")))
	if err := b.fails[what]; err != nil {
		return "", err
	}
	if b.heals {
		b.s.Verdict.Decision, b.s.Verdict.Code = verdict.Released, what
	}
	return what + " was done", nil
}

func (b *bench) Status(context.Context) Status { return b.s }
func (b *bench) Log() []string                 { return []string{"image 1.0", "verdict ISOLATED"} }

func (b *bench) CheckKey(_ context.Context, k string) error {
	if k != key {
		return fmt.Errorf("the TPM refused: %w", ErrWrongKey)
	}
	return b.fails["key"]
}

func (b *bench) Provision(context.Context) (string, error) { return b.did("provision") }
func (b *bench) Validate(_ context.Context, device string) (string, error) {
	return b.did("validate", device)
}

func (b *bench) Recover(_ context.Context, device string) (string, error) {
	return b.did("recover", device)
}
func (b *bench) Accept(context.Context, string) (string, error) { return b.did("accept") }
func (b *bench) Reset(context.Context, string) (string, error)  { return b.did("reset") }
func (b *bench) Reflash(_ context.Context, slot string, from []string) (string, error) {
	return b.did("reflash", append([]string{slot}, from...)...)
}

func (b *bench) Enroll(_ context.Context, keep bool) (Enrollment, error) {
	if err := b.fails["plan"]; err != nil {
		return Enrollment{}, err
	}
	return Enrollment{Text: fmt.Sprintf("db ours, keep %v", keep), Write: func() error { _, err := b.did("enroll"); return err }}, nil
}

func (b *bench) Request(_ context.Context, text string) (string, error) {
	return b.did("request", text)
}

// describe carries out one line of a script.
func (b *bench) describe(t *testing.T, line string) {
	t.Helper()
	word, rest, _ := strings.Cut(line, " ")
	switch word {
	case "verdict":
		f := strings.SplitN(rest, " ", 3)
		b.s.Verdict = verdict.Verdict{Decision: verdict.Decision(f[0]), Code: f[1], Reason: f[2]}
	case "next":
		b.s.Verdict.Next = rest
	case "slot":
		name, state, _ := strings.Cut(rest, " ")
		b.s.Slots = append(b.s.Slots, Slot{Name: name, State: state, Bad: strings.Contains(state, "bad")})
	case "device":
		f := strings.SplitN(rest, " ", 4)
		b.s.Devices = append(b.s.Devices, verdict.Device{ID: f[0], Verdict: verdict.Verdict{Decision: verdict.Decision(f[1]), Code: f[2], Reason: f[3]}})
	case "no-tpm":
		b.s.TPM = false
	case "setup-mode":
		b.s.SetupMode = true
	case "rescue":
		b.s.Rescue = true
	case "outcome":
		b.s.Outcome = rest
	case "name":
		b.s.Name = rest
	case "heals":
		b.heals = true
	case "fails":
		what, why, _ := strings.Cut(rest, " ")
		b.fails[what] = errors.New(why)
	default:
		t.Fatalf("unknown line %q", line)
	}
}

// show renders a reply with everything that the adapter has to obey.
func show(r Reply) string {
	out := r.Text
	if r.Prompt != "" {
		out += "[" + strings.TrimSpace(r.Prompt) + "]"
	}
	if r.Secret {
		out += " (echo off)"
	}
	if r.Wait > 0 {
		out += fmt.Sprintf(" (after %s)", r.Wait)
	}
	if r.End != Stay {
		out += "(" + map[End]string{Continue: "continue", Reboot: "reboot", PowerOff: "power off"}[r.End] + ")"
	}
	// datadriven ends an expected output at the first empty line
	return strings.ReplaceAll(strings.Trim(out, "\n"), "\n\n", "\n.\n") + "\n"
}

func TestConsole(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		var b *bench
		var c *Console
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "box": // an isolated box with a TPM, and what is said about it
				b = &bench{fails: map[string]error{}, s: Status{
					Image: "1.0", Slot: "A", TPM: true, Counter: 5, Expected: 3, Ledger: "vouched for by the TPM",
				}}
				for line := range strings.SplitSeq(strings.TrimSpace(d.Input), "\n") {
					b.describe(t, line)
				}
				c = New(b)
				return show(c.Open(t.Context(), "the box is isolated"))
			case "type":
				r := c.Line(t.Context(), d.Input)
				out := show(r)
				if strings.Contains(out, key) {
					t.Errorf("the recovery key is on the console:\n%s", out)
				}
				for _, did := range b.called {
					out += "did: " + did + "\n"
				}
				b.called = nil
				return out
			}
			d.Fatalf(t, "unknown command %s", d.Cmd)
			return ""
		})
	})
}

// TestEveryVerdictHasAWay holds the options to the codes that package verdict gives out.
func TestEveryVerdictHasAWay(t *testing.T) {
	elsewhere := "tpm-lockout ledger-missing ledger-newer" // nothing at this console helps
	for code := range strings.FieldsSeq("unprovisioned tpm-owned tpm-absent tpm-lockout tpm-forged tpm-name tpm-error tpm-cleared tpm-not-reset tpm-rolled-back srk-differs counter-missing expected-missing counter-moved intent-missing intent-unchained too-many-attempts ledger-missing ledger-corrupt ledger-newer ledger-factory ledger-differs image-differs image-changed-open config-unreadable") {
		o := Options(Status{Verdict: verdict.Verdict{Decision: verdict.Isolated, Code: code}})
		if has := len(o) > 2; has == strings.Contains(elsewhere, code) {
			t.Errorf("%s: %v", code, o)
		}
	}
}

func TestLongLine(t *testing.T) {
	b := &bench{}
	c := New(b)
	if r := c.Line(t.Context(), strings.Repeat("x", MaxLine+1)); !strings.Contains(r.Text, "too long") || r.Prompt == "" {
		t.Errorf("%+v", r)
	}
}
