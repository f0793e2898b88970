package ctl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"text/tabwriter"

	"github.com/cockroachdb/datadriven"
)

// box answers every call with the same reply, as it stands in the test file, and prints as ratchetctl does.
type box struct {
	reply string
	asked string
	out   strings.Builder
}

func (b *box) Invoke(_ context.Context, plugin, method string, request, reply any) error {
	p, err := json.Marshal(request)
	if err != nil {
		return err
	}
	b.asked += fmt.Sprintf("asked: %s %s %s\n", plugin, method, p)
	if text, failed := strings.CutPrefix(b.reply, "error "); failed {
		return errors.New(text)
	}
	return json.Unmarshal([]byte(b.reply), reply)
}

func (b *box) Print(_ any, columns []string, rows [][]string) error {
	w := tabwriter.NewWriter(&b.out, 0, 0, 2, ' ', 0)
	for _, r := range append([][]string{columns}, rows...) {
		fmt.Fprintln(w, strings.Join(r, "\t"))
	}
	return w.Flush()
}

// TestCommands runs testdata/ctl.txt: a command and the plugin's reply; what is asked and shown.
func TestCommands(t *testing.T) {
	datadriven.RunTest(t, "testdata/ctl.txt", func(t *testing.T, d *datadriven.TestData) string {
		b := &box{reply: d.Input}
		root := Command(b)
		root.SilenceUsage, root.SilenceErrors = true, true
		root.SetOut(&b.out)
		args := []string{d.Cmd}
		for _, a := range d.CmdArgs {
			args = append(args, a.String())
		}
		root.SetArgs(args)
		if err := root.ExecuteContext(t.Context()); err != nil {
			fmt.Fprintln(&b.out, "error:", err)
		}
		var out strings.Builder
		out.WriteString(b.asked)
		for line := range strings.SplitSeq(strings.TrimSpace(b.out.String()), "\n") {
			fmt.Fprintln(&out, strings.TrimRight(line, " "))
		}
		return out.String()
	})
}

// The file with the key is for its owner alone, also where there was another before.
func TestIdentityFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "box.pem")
	if err := os.WriteFile(path, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	c := Command(&box{reply: `{"identity": "-----BEGIN CERTIFICATE-----\n"}`})
	c.SetArgs([]string{"agent", "enroll", "web-1", "--file", path})
	if err := c.ExecuteContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "-----BEGIN CERTIFICATE-----\n" || st.Mode().Perm() != 0o600 {
		t.Errorf("%q with mode %o, %v", text, st.Mode().Perm(), err)
	}
}

// -w looks again until it is interrupted, which is no error.
func TestLive(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	b := &box{reply: `{"agents": []}`}
	looks := 0
	c := Command(interrupted{b, func() {
		if looks++; looks == 3 {
			cancel()
		}
	}})
	c.SetOut(&b.out)
	c.SetArgs([]string{"agent", "list", "-w", "--every", "1ms"})
	if err := c.ExecuteContext(ctx); err != nil {
		t.Error(err)
	}
	if looks != 3 {
		t.Errorf("looked %d times", looks)
	}
}

type interrupted struct {
	*box
	after func()
}

func (i interrupted) Invoke(ctx context.Context, plugin, method string, request, reply any) error {
	i.after()
	return i.box.Invoke(ctx, plugin, method, request, reply)
}
