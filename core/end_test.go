package core

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ratchetos/ratchet/boot/attempt"
	"github.com/ratchetos/ratchet/boot/ledger"
	"github.com/ratchetos/ratchet/boot/verdict"
	"github.com/ratchetos/ratchet/core/firmware"
	"github.com/ratchetos/ratchet/core/inventory"
	"github.com/ratchetos/ratchet/core/pid1"
	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
	"github.com/ratchetos/ratchet/core/plugin/wire"
)

// TestMain lets the test binary be the plugin of these tests.
func TestMain(m *testing.M) {
	if shake := wire.Handshake(); os.Getenv(shake.MagicCookieKey) == shake.MagicCookieValue {
		os.Exit(plugin.Serve(&orderly{}, plugin.ServeOptions{}))
	}
	os.Exit(m.Run())
}

// orderly is a plugin that says that it was stopped.
type orderly struct{ session *plugin.Session }

func (*orderly) Describe() plugin.Descriptor {
	return &pluginpb.Descriptor{Name: "orderly", Version: "1", Summary: "says that it was stopped"}
}
func (*orderly) ConfigSchema() string { return `{"type": "object"}` }
func (o *orderly) Validate(_ context.Context, s plugin.Section) (v plugin.Validation) {
	if o.session != nil && strings.Contains(string(s.JSON), "less") {
		v.Errorf("less", "it has more")
	}
	if !json.Valid(s.JSON) {
		v.Errorf("", "not JSON")
	}
	return v
}
func (*orderly) Configure(context.Context, plugin.Section) error { return nil }
func (o *orderly) Start(_ context.Context, s *plugin.Session) error {
	o.session = s
	return nil
}

func (o *orderly) Stop(context.Context) error {
	o.session.Log.Info("stopped in order")
	return nil
}

// TestEndWithOpenCall: a call whose body never comes, which needs no certificate, keeps the machine from nothing: the plugins stop
// in order and the action that was asked for is what run returns.
func TestEndWithOpenCall(t *testing.T) {
	dir := t.TempDir()
	yaml := "version: 1\ntpm: none\napi: {listen: none}\nplugins: {orderly: {}}\n"
	if err := os.WriteFile(filepath.Join(dir, "appliance.yaml"), []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	a := workstation(t, dir, &orderly{})
	c, err := net.Dial("unix", filepath.Join(a.runDir, "api.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "POST /ratchet.api.v1.Access/Enrol HTTP/1.1\r\nHost: ratchet\r\nContent-Type: application/json\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n")
	// The server says this when somebody waits for the body.
	if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || !strings.Contains(line, "100 Continue") {
		t.Fatalf("%q, %v", line, err)
	}
	a.end <- pid1.Reboot
	if end := a.until(nil); end != pid1.Reboot {
		t.Errorf("the machine is told: %s", end)
	}
	lines, err := a.host.Logs("orderly", 0)
	if err != nil || !strings.Contains(fmt.Sprint(lines), "stopped in order") {
		t.Errorf("the plugin was killed: %v, %v", lines, err)
	}
}

// slowAttempts holds the first step of an update until it is told to go on.
type slowAttempts struct{ begun, goOn chan struct{} }

func (slowAttempts) Open(context.Context, ledger.Intent) (attempt.Attempt, error) {
	return attempt.Attempt{}, errors.New("not in this test")
}

func (s slowAttempts) Judge(context.Context) (verdict.Judgement, error) {
	s.begun <- struct{}{}
	<-s.goOn
	return verdict.Judgement{}, errors.New("not in this test")
}

// TestEndWaitsForFirmware: while the firmware of a device is written the machine does not end, and its watchdog is fed.
func TestEndWaitsForFirmware(t *testing.T) {
	a := workstation(t, newDir(t))
	fed, feeder, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer fed.Close()
	a.watchdog = &watchdog{file: feeder}
	s := slowAttempts{make(chan struct{}, 2), make(chan struct{})}
	a.firmware = firmware.New(firmware.Options{Devices: inventory.New(a.system, nil), Hardware: a.system, Attempts: s})
	updated := make(chan error, 1)
	go func() {
		_, err := a.firmware.Recover(context.Background(), "serial:1", nil, "", nil)
		updated <- err
	}()
	<-s.begun
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer a.watchdog.stop()
		a.until(nil)
	}()
	a.end <- pid1.PowerOff
	// Once by the main loop, once by what waits.
	first := make([]byte, 2)
	if _, err := io.ReadFull(fed, first); err != nil || string(first) != "\x00\x00" {
		t.Errorf("the machine ends beside the update: %q, %v", first, err)
	}
	close(s.goOn)
	<-updated
	<-ended
	if rest, err := io.ReadAll(fed); err != nil || string(rest) != "V" {
		t.Errorf("at the end the watchdog is told %q, %v", rest, err)
	}
	if _, err := a.firmware.Recover(t.Context(), "serial:1", nil, "", nil); !errors.Is(err, firmware.ErrBusy) {
		t.Errorf("an update after the end: %v", err)
	}
}

// TestRestartAfter: a box without core restarts by itself where boots are counted, and nowhere else.
func TestRestartAfter(t *testing.T) {
	slotted := handoff{report: &verdict.Report{Slot: "A"}}
	for name, c := range map[string]struct {
		h         handoff
		variables bool
		restarts  bool
	}{
		"counted":      {slotted, true, true},
		"no variables": {slotted, false, false},
		"no slot":      {handoff{report: &verdict.Report{}}, true, false},
		"workstation":  {handoff{}, true, false},
	} {
		if got := c.h.restartAfter(c.variables) > 0; got != c.restarts {
			t.Errorf("%s: restarts %v", name, got)
		}
	}
}
