package migration

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"
	"go.uber.org/goleak"

	"github.com/ratchetos/ratchet/core/api/apipb"
	"github.com/ratchetos/ratchet/core/api/apitest"
	corectl "github.com/ratchetos/ratchet/core/ctl"
	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/plugins/migration/ctl"
)

func TestMain(m *testing.M) {
	testscript.Main(leakless{m}, map[string]func(){
		"ratchetctl": func() {
			os.Exit(corectl.Main(os.Args[1:], []plugin.Feature{New()}, func(a *corectl.App) *cobra.Command { return ctl.Command(a) }))
		},
	})
}

// leakless is all tests, and that nothing of them is left running.
type leakless struct{ m *testing.M }

func (l leakless) Run() int {
	code := l.m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	return code
}

// through is core with the plugin behind it.
type through struct {
	*apitest.Backend
	f *Feature
}

func (b through) Plugins(context.Context) ([]*apipb.Plugin, error) {
	return []*apipb.Plugin{{Name: "migration", State: "ready", Health: "ok", Methods: b.f.Describe().GetMethods()}}, nil
}

func (b through) Invoke(ctx context.Context, _, method string, request []byte, _ string) ([]byte, error) {
	return b.f.Invoke(ctx, method, request)
}

// TestScripts runs the commands of the operator as processes of their own, through core's API, against the plugin with hosts in
// memory. All scripts see the same three VMs: each has one of its own.
func TestScripts(t *testing.T) {
	h := newHouse(t)
	h.open(t, `, "types": [{"name": "wide", "vcpus": 2}, {"name": "small", "vcpus": 1}], "vms": [{"name": "web2", "labels": {"tier": "front"}}]`)
	s := apitest.Start(t, t.TempDir(), through{&apitest.Backend{}, h.Feature}, slog.New(slog.DiscardHandler))
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script", RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("RATCHET_SOCKET", s.Socket)
			env.Setenv("HOME", env.WorkDir)
			return nil
		},
	})
}
