package ctl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/core/api/apipb"
	"github.com/ratchetos/ratchet/core/api/apitest"
	"github.com/ratchetos/ratchet/core/api/pki"
	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
)

// feature is a plugin to check configurations with.
type feature struct{ plugin.Feature }

type featureConfig struct {
	Cache plugin.Size `json:"cache"`
	Disk  string      `json:"disk"`
}

func (feature) Describe() plugin.Descriptor {
	return &pluginpb.Descriptor{Name: "gateway", ConfigSchema: plugin.Schema(featureConfig{})}
}

func (feature) Validate(_ context.Context, s plugin.Section) plugin.Validation {
	return plugin.Decode(s, &featureConfig{})
}

// volumes is what a plugin adds; it only knows a small interface.
func volumes(a *App) *cobra.Command {
	return &cobra.Command{Use: "volume", Short: "List volumes", Example: "  ratchetctl volume", RunE: func(cmd *cobra.Command, args []string) error {
		if len(args) == 4 { // OP PATH VALUE OTHER tries it after somebody else has set OTHER
			if err := a.Section(cmd.Context(), "gateway", &featureConfig{}); err != nil {
				return err
			}
			other := &App{In: a.In, Out: a.Err, Err: a.Err, socket: a.socket, output: a.output}
			if err := other.Edit(cmd.Context(), "gateway", "set", args[1], args[3], false); err != nil {
				return err
			}
			return a.Try(cmd.Context(), "gateway", args[0], args[1], args[2])
		}
		if len(args) == 3 { // OP PATH VALUE; PATH? only shows it, PATH! only tries it
			if path, try := strings.CutSuffix(args[1], "!"); try {
				return a.Try(cmd.Context(), "gateway", args[0], path, args[2])
			}
			path, preview := strings.CutSuffix(args[1], "?")
			return a.Edit(cmd.Context(), "gateway", args[0], path, args[2], preview)
		}
		var reply struct {
			Volumes []struct {
				Name string `json:"name"`
			} `json:"volumes"`
		}
		if err := a.Invoke(cmd.Context(), "gateway", "volumes.list", struct{}{}, &reply); err != nil {
			return err
		}
		var rows [][]string
		for _, v := range reply.Volumes {
			rows = append(rows, []string{v.Name})
		}
		return a.Print(reply, []string{"VOLUME"}, rows)
	}}
}

// shelf is a plugin's command that only holds another, and knows nothing of exit codes.
func shelf(*App) *cobra.Command {
	c := &cobra.Command{Use: "shelf", Short: "Hold books", Example: "  ratchetctl shelf"}
	add := &cobra.Command{
		Use: "add BOOK", Short: "Add a book", Example: "  ratchetctl shelf add b --at 1", Args: cobra.ExactArgs(1),
		RunE: func(*cobra.Command, []string) error { return nil },
	}
	add.Flags().Int("at", 0, "place")
	must(add.MarkFlagRequired("at"))
	c.AddCommand(add)
	return c
}

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"ratchetctl": func() { os.Exit(Main(os.Args[1:], []plugin.Feature{feature{}}, volumes, shelf)) },
	})
}

// TestScripts runs every verb as a process of its own against a real server.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			backend := &apitest.Backend{Isolated: strings.Contains(filepath.Base(env.WorkDir), "isolated")}
			s := apitest.Start(env.T().(testing.TB), env.WorkDir, backend, slog.New(slog.DiscardHandler))
			token, err := s.Tokens.Create(pki.Viewer, time.Minute)
			if err != nil {
				return err
			}
			env.Setenv("RATCHET_SOCKET", s.Socket)
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("TCP", s.TCP)
			env.Setenv("TOKEN", token)
			env.Setenv("CA", s.Authority.Fingerprint())
			env.Values["backend"] = backend
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"called":    called,
			"jsonfield": jsonField,
			"exitcode":  exitCode,
			"following": following,
		},
	})
}

// called CALL… asserts what changed the box.
func called(ts *testscript.TestScript, neg bool, args []string) {
	got := ts.Value("backend").(*apitest.Backend).Calls()
	want := strings.Join(args, " ")
	found := false
	for _, c := range got {
		found = found || c == want || want == ""
	}
	if found == neg {
		ts.Fatalf("the box was asked for %q; want %q (negated: %t)", got, want, neg)
	}
}

// jsonfield FIELD VALUE asserts a field of the JSON on the last standard output.
func jsonField(ts *testscript.TestScript, neg bool, args []string) {
	var v any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &v))
	for part := range strings.SplitSeq(args[0], ".") {
		switch x := v.(type) {
		case map[string]any:
			v = x[part]
		case []any:
			v = x[len(part)-1] // "-" is the first element, "--" the second
		}
	}
	text, err := json.Marshal(v)
	ts.Check(err)
	if (string(text) == args[1]) == neg {
		ts.Fatalf("%s is %s", args[0], text)
	}
}

// exitcode N COMMAND… runs a command that must end with this code.
func exitCode(ts *testscript.TestScript, neg bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	code := "0"
	if err != nil {
		code = strings.TrimPrefix(err.Error(), "exit status ")
	}
	if (code == args[0]) == neg {
		ts.Fatalf("%v ended with %s, want %s", args[1:], code, args[0])
	}
}

// following waits until the box has a log stream open, and says a line on it.
func following(ts *testscript.TestScript, _ bool, args []string) {
	backend := ts.Value("backend").(*apitest.Backend)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	ts.Check(backend.Say(ctx, strings.Join(args, " ")))
}

// TestEveryCommandHelps: each says what it does and shows an example.
func TestEveryCommandHelps(t *testing.T) {
	var visit func(c *cobra.Command)
	visit = func(c *cobra.Command) {
		if c.Name() == "completion" {
			return // cobra's own
		}
		if c.Short == "" || c.Example == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: short %q, example %q", c.CommandPath(), c.Short, c.Example)
		}
		for _, sub := range c.Commands() {
			visit(sub)
		}
	}
	visit((&App{}).Command(volumes, shelf))
}

func TestLogLine(t *testing.T) {
	for in, want := range map[string]string{
		`{"time":"x","level":"INFO","msg":"volume serves","volume":"demo","took":43,"why":"a b","deep":{"k":[1]}}`: `INFO  volume serves volume=demo took=43 why="a b" deep={"k":[1]}`,
		"panic: \x1b[2J":   "panic: ?[2J",
		`{"level":"INFO"}`: `{"level":"INFO"}`,
		`{"msg":"torn`:     `{"msg":"torn`,
		`{`:                `{`,
		"":                 "",
	} {
		got := logLine(&apipb.LogLine{Text: in}, false)
		if got != "1970-01-01T00:00:00.000Z "+want {
			t.Errorf("%s is shown as %s", in, got)
		}
	}
	if got := logLine(&apipb.LogLine{Text: `{"msg":"x"}`}, true); got != `{"msg":"x"}` {
		t.Errorf("raw line is shown as %s", got)
	}
}

func TestReleased(t *testing.T) {
	for d, code := range map[string]int{"released": ExitOK, "isolated": ExitNotReleased, "quarantined": ExitNotReleased, "": ExitOK} {
		if got, _ := outcome(released(&apipb.Verdict{Decision: d})); got != code {
			t.Errorf("verdict %q gives exit code %d, want %d", d, got, code)
		}
	}
}

// TestOutcome: what a command adds to the box's words is shown, and the code in front of them is not.
func TestOutcome(t *testing.T) {
	err := fmt.Errorf("give the space back: %w; --force gives it up", connect.NewError(connect.CodeAborted, errors.New("2 clients are connected")))
	if code, text := outcome(err); code != ExitFailed || text != "give the space back: 2 clients are connected; --force gives it up" {
		t.Errorf("%d: %s", code, text)
	}
	locked := connect.NewError(connect.CodeUnavailable, &net.OpError{Op: "dial", Net: "unix", Err: unix.EACCES})
	if code, text := outcome(locked); code != ExitUnreachable || !strings.Contains(text, "permission denied; use sudo") {
		t.Errorf("a socket of somebody else: %d: %s", code, text)
	}
}

// TestRow: what is missing in a table can be seen, and a blank line of a text is blank.
func TestRow(t *testing.T) {
	var out strings.Builder
	Row(&out, "a", "", "b")
	Row(&out, "")
	if out.String() != "a\t-\tb\n\n" {
		t.Errorf("%q", out.String())
	}
}

// TestApplied: a machine without a counter is not told of one, nor to reboot.
func TestApplied(t *testing.T) {
	box := applied(&apipb.ApplyConfigReply{Applied: true, Changed: []string{"api"}, Counter: 2, RebootNeeded: true}, 0)
	if box != "applied; changed: api; counter 2\npart of it takes effect at the next boot: ratchetctl power reboot" {
		t.Errorf("on a box: %s", box)
	}
	workstation := applied(&apipb.ApplyConfigReply{Applied: true, Changed: []string{"api"}, RebootNeeded: true}, 0)
	if workstation != "applied; changed: api\npart of it takes effect when core starts again" {
		t.Errorf("on a workstation: %s", workstation)
	}
}

func TestNumbersForPeople(t *testing.T) {
	for n, want := range map[uint64]string{0: "0", 1023: "1023", 1024: "1K", 1536: "1.5K", 21 << 20: "21M", 1 << 40: "1T", 10<<30 + 1: "10G"} {
		if got := Bytes(n); got != want {
			t.Errorf("Bytes(%d) = %s, want %s", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 14 * time.Second: "14s", 61 * time.Second: "1m1s", 131 * time.Minute: "2h11m", 49 * time.Hour: "2d1h",
	} {
		if got := ago(d); got != want {
			t.Errorf("ago(%s) = %s, want %s", d, got, want)
		}
	}
}

// An isolated box without a TPM is no workstation: the verdict is what its operator looks for.
func TestCounterWithoutTPM(t *testing.T) {
	isolated := &apipb.Verdict{Decision: "isolated", Code: "tpm-absent", Reason: "there is no TPM", Next: "switch it on"}
	for name, tc := range map[string]struct {
		verdict *apipb.Verdict
		want    string
	}{
		"workstation":  {nil, "this machine keeps no counter (tpm: none)\n"},
		"isolated box": {isolated, "ISOLATED  no counter: the TPM cannot be used\nwhy   there is no TPM\nnext  switch it on\n"},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			counterTable(&out, &apipb.ShowCounterReply{Verdict: tc.verdict})
			if out.String() != tc.want {
				t.Errorf("got\n%s\nwant\n%s", out.String(), tc.want)
			}
		})
	}
}
