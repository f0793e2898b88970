package api_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/ratchetos/ratchet/core/api"
	"github.com/ratchetos/ratchet/core/api/apipb"
	"github.com/ratchetos/ratchet/core/api/apipb/apipbconnect"
	"github.com/ratchetos/ratchet/core/api/apitest"
	"github.com/ratchetos/ratchet/core/api/client"
	"github.com/ratchetos/ratchet/core/api/pki"
)

// syncBuffer is a log that a test reads while the server writes.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

type box struct {
	*apitest.Server
	backend *apitest.Backend
	log     *syncBuffer
}

func start(t *testing.T) box {
	t.Helper()
	b := box{backend: &apitest.Backend{}, log: &syncBuffer{}}
	b.Server = apitest.Start(t, t.TempDir(), b.backend, slog.New(slog.NewTextHandler(b.log, nil)))
	return b
}

func (b box) credentials(t *testing.T, role pki.Role) *client.Credentials {
	t.Helper()
	token, err := b.Tokens.Create(role, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	creds, got, err := client.Login(t.Context(), client.LoginOptions{
		Address: b.TCP, Token: token, CASHA256: b.Authority.Fingerprint(), Name: "anna",
	})
	if err != nil || got != role.String() {
		t.Fatalf("login as %s: role %s, %v", role, got, err)
	}
	return creds
}

func (b box) client(t *testing.T, opts client.Options) *client.Client {
	t.Helper()
	c, err := client.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// calls has every unary procedure, so that the role of each is tried over real TLS.
var calls = map[string]func(context.Context, *client.Client) error{
	apipbconnect.SystemStatusProcedure: func(ctx context.Context, c *client.Client) error {
		_, err := c.System.Status(ctx, &apipb.StatusRequest{})
		return err
	},
	apipbconnect.SystemVersionProcedure: func(ctx context.Context, c *client.Client) error {
		_, err := c.System.Version(ctx, &apipb.VersionRequest{})
		return err
	},
	apipbconnect.SystemPowerProcedure: func(ctx context.Context, c *client.Client) error {
		_, err := c.System.Power(ctx, &apipb.PowerRequest{Action: apipb.PowerAction_POWER_ACTION_OFF})
		return err
	},
	apipbconnect.PluginsListProcedure: func(ctx context.Context, c *client.Client) error {
		_, err := c.Plugins.List(ctx, &apipb.ListPluginsRequest{})
		return err
	},
	apipbconnect.PluginsRestartProcedure: func(ctx context.Context, c *client.Client) error {
		_, err := c.Plugins.Restart(ctx, &apipb.RestartRequest{Plugin: "gateway"})
		return err
	},
	apipbconnect.PluginsLogsProcedure: func(ctx context.Context, c *client.Client) error {
		stream, err := c.Plugins.Logs(ctx, &apipb.LogsRequest{Plugin: "gateway"})
		if err != nil {
			return err
		}
		for stream.Receive() {
		}
		return errors.Join(stream.Err(), stream.Close())
	},
	apipbconnect.PluginsInvokeProcedure: func(ctx context.Context, c *client.Client) error {
		return c.Invoke(ctx, "gateway", "volumes.list", nil, nil)
	},
	apipbconnect.PluginsInvokeProcedure + " changing": func(ctx context.Context, c *client.Client) error {
		return c.Invoke(ctx, "gateway", "volumes.flush", map[string]string{"name": "demo"}, nil)
	},
	apipbconnect.ConfigShowProcedure: func(ctx context.Context, c *client.Client) error {
		_, err := c.Config.Show(ctx, &apipb.ShowConfigRequest{})
		return err
	},
	apipbconnect.ConfigCheckProcedure: func(ctx context.Context, c *client.Client) error {
		_, err := c.Config.Check(ctx, &apipb.CheckConfigRequest{})
		return err
	},
	apipbconnect.ConfigApplyProcedure: func(ctx context.Context, c *client.Client) error {
		_, err := c.Config.Apply(ctx, &apipb.ApplyConfigRequest{})
		return err
	},
	apipbconnect.ConfigConfirmProcedure: func(ctx context.Context, c *client.Client) error {
		_, err := c.Config.Confirm(ctx, &apipb.ConfirmConfigRequest{})
		return err
	},
	apipbconnect.HardwareListProcedure: func(ctx context.Context, c *client.Client) error {
		_, err := c.Hardware.List(ctx, &apipb.ListHardwareRequest{})
		return err
	},
	apipbconnect.HardwareClaimProcedure: func(ctx context.Context, c *client.Client) error {
		_, err := c.Hardware.Claim(ctx, &apipb.ClaimRequest{Selector: "serial:old", Erase: true})
		return err
	},
	apipbconnect.HardwareReleaseProcedure: func(ctx context.Context, c *client.Client) error {
		_, err := c.Hardware.Release(ctx, &apipb.ReleaseRequest{Selector: "serial:old"})
		return err
	},
	apipbconnect.CounterShowProcedure: func(ctx context.Context, c *client.Client) error {
		_, err := c.Counter.Show(ctx, &apipb.ShowCounterRequest{})
		return err
	},
	apipbconnect.AccessCreateTokenProcedure: func(ctx context.Context, c *client.Client) error {
		_, err := c.Access.CreateToken(ctx, &apipb.CreateTokenRequest{Role: "viewer"})
		return err
	},
}

// lowest is the role that each call needs; it is written down here a second time on purpose.
var lowest = map[string]pki.Role{
	apipbconnect.SystemPowerProcedure:                 pki.Admin,
	apipbconnect.PluginsRestartProcedure:              pki.Operator,
	apipbconnect.PluginsInvokeProcedure + " changing": pki.Operator,
	apipbconnect.ConfigShowProcedure:                  pki.Operator,
	apipbconnect.ConfigApplyProcedure:                 pki.Admin,
	apipbconnect.ConfigConfirmProcedure:               pki.Admin,
	apipbconnect.HardwareClaimProcedure:               pki.Admin,
	apipbconnect.HardwareReleaseProcedure:             pki.Admin,
	apipbconnect.AccessCreateTokenProcedure:           pki.Admin,
}

func TestRoles(t *testing.T) {
	b := start(t)
	services := apipb.File_api_proto.Services()
	for i := range services.Len() {
		for j := range services.Get(i).Methods().Len() {
			m := services.Get(i).Methods().Get(j)
			name := "/" + string(services.Get(i).FullName()) + "/" + string(m.Name())
			if calls[name] == nil && name != apipbconnect.AccessEnrolProcedure {
				t.Errorf("no test calls %s", name)
			}
		}
	}
	for _, role := range []pki.Role{pki.Viewer, pki.Operator, pki.Admin} {
		c := b.client(t, client.Options{Address: b.TCP, Credentials: b.credentials(t, role)})
		for name, call := range calls {
			need := lowest[name]
			err := call(t.Context(), c)
			if role >= need && err != nil {
				t.Errorf("%s as %s: %v", name, role, err)
			}
			if role < need && connect.CodeOf(err) != connect.CodePermissionDenied {
				t.Errorf("%s as %s: %v, want permission denied", name, role, err)
			}
		}
	}
}

func TestLocalSocketIsAdmin(t *testing.T) {
	b := start(t)
	c := b.client(t, client.Options{Address: "unix:" + b.Socket})
	for name, call := range calls {
		if err := call(t.Context(), c); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	info, err := os.Stat(b.Socket)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket mode %v, %v; want 0600", info.Mode(), err)
	}
}

func TestStrangersAreRefused(t *testing.T) {
	b, other := start(t), start(t)
	// A certificate of another box, and none at all.
	foreign := other.credentials(t, pki.Admin)
	foreign.CA = pki.EncodeCertificate(b.Authority.CA())
	c := b.client(t, client.Options{Address: b.TCP, Credentials: foreign})
	for name, call := range calls {
		if err := call(t.Context(), c); err == nil {
			t.Errorf("%s with a foreign certificate went through", name)
		}
	}
	anonymous := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer anonymous.CloseIdleConnections()
	for path, want := range map[string]int{
		"/healthz": http.StatusOK, "/metrics": http.StatusUnauthorized, "/": http.StatusNotFound,
		apipbconnect.SystemStatusProcedure: http.StatusUnauthorized,
	} {
		method, body := http.MethodGet, ""
		if strings.HasPrefix(path, "/ratchet") {
			method, body = http.MethodPost, "{}"
		}
		req, _ := http.NewRequestWithContext(t.Context(), method, "https://"+b.TCP+path, strings.NewReader(body))
		req.Header.Set("Content-Type", "application/json")
		if body == "" {
			req.Header.Del("Content-Type")
		}
		reply, err := anonymous.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		reply.Body.Close()
		if reply.StatusCode != want {
			t.Errorf("%s without certificate: %s, want %d", path, reply.Status, want)
		}
	}
	if got := b.backend.Calls(); len(got) > 0 {
		t.Errorf("strangers changed the box: %v", got)
	}
	// A client never talks to a box that is not the one it enrolled at.
	c = other.client(t, client.Options{Address: b.TCP, Credentials: other.credentials(t, pki.Admin)})
	if _, err := c.System.Status(t.Context(), &apipb.StatusRequest{}); client.ReasonOf(err) != client.Unreachable {
		t.Errorf("status of a box with another CA: %v", err)
	}
}

func TestLoginChecksTheBox(t *testing.T) {
	b, other := start(t), start(t)
	token, err := b.Tokens.Create(pki.Admin, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	opts := client.LoginOptions{Address: b.TCP, Token: token, CASHA256: other.Authority.Fingerprint(), Name: "anna"}
	if _, _, err := client.Login(t.Context(), opts); err == nil || !strings.Contains(err.Error(), "not the box") {
		t.Errorf("login at an impostor: %v", err)
	}
	// The token was not shown to the impostor: it still works.
	opts.CASHA256 = strings.ToUpper(b.Authority.Fingerprint())
	if _, _, err := client.Login(t.Context(), opts); err != nil {
		t.Errorf("login: %v", err)
	}
	if _, _, err := client.Login(t.Context(), opts); client.ReasonOf(err) != client.Unknown {
		t.Errorf("login with a used token: %v", err)
	}
	for _, bad := range []client.LoginOptions{
		{Address: b.TCP, CASHA256: "abc"}, {Address: "unix:/x"}, {Address: ""},
	} {
		if _, _, err := client.Login(t.Context(), bad); err == nil {
			t.Errorf("login with %+v went through", bad)
		}
	}
}

func TestAudit(t *testing.T) {
	b := start(t)
	c := b.client(t, client.Options{Address: b.TCP, Credentials: b.credentials(t, pki.Operator)})
	for _, name := range []string{
		apipbconnect.SystemStatusProcedure, apipbconnect.PluginsInvokeProcedure,
		apipbconnect.PluginsInvokeProcedure + " changing", apipbconnect.PluginsRestartProcedure, apipbconnect.SystemPowerProcedure,
	} {
		_ = calls[name](t.Context(), c)
	}
	// A configuration with errors goes through as a call and changes nothing: no "ok" for that.
	local := b.client(t, client.Options{Address: "unix:" + b.Socket})
	if _, err := local.Config.Apply(t.Context(), &apipb.ApplyConfigRequest{Name: "a.yaml", Yaml: []byte("cahce: 1")}); err != nil {
		t.Error(err)
	}
	var got []string
	for line := range strings.Lines(b.log.String()) {
		if i := strings.Index(line, "msg=audit"); i >= 0 {
			before, _, _ := strings.Cut(line[i:], " took=")
			before, _, _ = strings.Cut(before, " error=")
			got = append(got, before)
		}
	}
	want := []string{
		`msg=audit procedure=/ratchet.api.v1.Access/Enrol caller="" role=none via=tcp target="anna as operator" outcome=ok`,
		"msg=audit procedure=/ratchet.api.v1.Plugins/Invoke caller=anna role=operator via=tcp target=gateway/volumes.flush outcome=ok",
		"msg=audit procedure=/ratchet.api.v1.Plugins/Restart caller=anna role=operator via=tcp target=gateway outcome=ok",
		"msg=audit procedure=/ratchet.api.v1.System/Power caller=anna role=operator via=tcp",
		fmt.Sprintf("msg=audit procedure=/ratchet.api.v1.Config/Apply caller=uid:%d role=admin via=unix target=a.yaml", os.Geteuid()),
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("audit log:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestAuditTrailIsForOperators: what a viewer may not see is refused, and that is in the trail.
func TestAuditTrailIsForOperators(t *testing.T) {
	b := start(t)
	for _, role := range []pki.Role{pki.Viewer, pki.Operator} {
		c := b.client(t, client.Options{Address: b.TCP, Credentials: b.credentials(t, role)})
		stream, err := c.Plugins.Logs(t.Context(), &apipb.LogsRequest{Plugin: api.AuditTrail})
		if err != nil {
			t.Fatal(err)
		}
		if seen := stream.Receive(); seen != (role == pki.Operator) {
			t.Errorf("%s sees it: %v, %v", role, seen, stream.Err())
		}
		stream.Close()
	}
	if want := "procedure=/ratchet.api.v1.Plugins/Logs caller=anna role=viewer"; !strings.Contains(b.log.String(), want) {
		t.Errorf("no line with %q in\n%s", want, b.log.String())
	}
}

func TestErrorsKeepTheirMeaning(t *testing.T) {
	b := start(t)
	b.backend.Isolated = true
	c := b.client(t, client.Options{Address: "unix:" + b.Socket})
	_, err := c.Plugins.Restart(t.Context(), &apipb.RestartRequest{Plugin: "gateway"})
	if client.ReasonOf(err) != client.NotReleased {
		t.Errorf("restart on an isolated box: %v", err)
	}
	_, err = c.Plugins.Restart(t.Context(), &apipb.RestartRequest{Plugin: "gatway"})
	if connect.CodeOf(err) != connect.CodeNotFound || !strings.Contains(err.Error(), "ratchetctl plugin list") {
		t.Errorf("restart of no plugin: %v", err)
	}
	if err = c.Invoke(t.Context(), "gateway", "volumes.lits", nil, nil); connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("invoke of no method: %v", err)
	}
	if _, err = c.System.Power(t.Context(), &apipb.PowerRequest{}); connect.CodeOf(err) != connect.CodeInvalidArgument {
		t.Errorf("power to nowhere: %v", err)
	}
	_, err = c.Config.Check(t.Context(), &apipb.CheckConfigRequest{Yaml: make([]byte, 3<<20)})
	if connect.CodeOf(err) != connect.CodeResourceExhausted {
		t.Errorf("3 MiB of configuration: %v", err)
	}
	gone := b.client(t, client.Options{Address: "unix:" + b.Socket + ".none"})
	if _, err = gone.System.Status(t.Context(), &apipb.StatusRequest{}); client.ReasonOf(err) != client.Unreachable {
		t.Errorf("no server: %v", err)
	}
}

// TestFollowEndsWithTheServer: a stream that would go on for ever does not hold Shutdown up.
func TestFollowEndsWithTheServer(t *testing.T) {
	b := start(t)
	c := b.client(t, client.Options{Address: "unix:" + b.Socket})
	stream, err := c.Plugins.Logs(t.Context(), &apipb.LogsRequest{Plugin: "gateway", Tail: 1, Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	if !stream.Receive() || stream.Msg().GetText() != "upload finished" {
		t.Fatalf("first line %q, %v", stream.Msg().GetText(), stream.Err())
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := b.backend.Say(ctx, "one more"); err != nil {
		t.Fatal(err)
	}
	if !stream.Receive() || stream.Msg().GetText() != "one more" {
		t.Fatalf("next line %q, %v", stream.Msg().GetText(), stream.Err())
	}
	if err := b.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	for stream.Receive() {
	}
}
