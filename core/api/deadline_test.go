package api_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/core/api"
	"github.com/ratchetos/ratchet/core/api/apipb"
	"github.com/ratchetos/ratchet/core/api/apitest"
	"github.com/ratchetos/ratchet/core/api/client"
)

// slowBackend takes its time to answer.
type slowBackend struct {
	apitest.Backend
	takes time.Duration
}

func (b *slowBackend) RestartPlugin(ctx context.Context, _ string, _ bool) error {
	select {
	case <-time.After(b.takes):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (b *slowBackend) PluginLogs(ctx context.Context, plugin string, _ int, _ bool, emit func(*apipb.LogLine) error) error {
	if err := b.RestartPlugin(ctx, plugin, false); err != nil {
		return err
	}
	return emit(&apipb.LogLine{Text: "late"})
}

// TestDeadlineIsForTheBodyOnly: a caller who stops in the middle of a request is cut off,
// one who waits for a slow answer is not.
func TestDeadlineIsForTheBodyOnly(t *testing.T) {
	const timeout = 100 * time.Millisecond
	s := apitest.Start(t, t.TempDir(), &slowBackend{takes: 3 * timeout}, slog.New(slog.DiscardHandler),
		func(s *api.Server) { s.SetBodyTimeout(timeout) })

	c, err := client.New(client.Options{Address: "unix:" + s.Socket})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Plugins.Restart(t.Context(), &apipb.RestartRequest{Plugin: "gateway"}); err != nil {
		t.Errorf("a slow call was ended: %v", err)
	}
	stream, err := c.Plugins.Logs(t.Context(), &apipb.LogsRequest{Plugin: "gateway", Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	if !stream.Receive() || stream.Msg().GetText() != "late" {
		t.Errorf("a slow stream was ended: %v", stream.Err())
	}

	conn, err := net.Dial("unix", s.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	const half = "POST /ratchet.api.v1.System/Power HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
	if _, err := io.WriteString(conn, half); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, conn); err != nil {
		t.Errorf("half a request kept its connection: %v", err)
	}
}
