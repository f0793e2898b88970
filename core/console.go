package core

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/core/api/pki"
	"github.com/ratchetos/ratchet/core/config"
	"github.com/ratchetos/ratchet/core/console"
	"github.com/ratchetos/ratchet/core/plugin"
)

// tokenLife is how long the token on the console of a development image can be used.
const tokenLife = time.Hour

// say prints one line for the operator. The prefix makes it recognisable among the kernel's lines.
func (a *appliance) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "ratchet: "+format+"\n", args...)
}

// complain prints what a part of the start could not do; the others go on.
func (a *appliance) complain(what string, err error) {
	fmt.Fprintf(os.Stderr, "ratchet: %s: %v\n", what, err)
}

// startPlugins applies the sections and reports each plugin.
func (a *appliance) startPlugins(ctx context.Context) {
	if err := a.host.Apply(ctx, a.sections(ctx, a.config)); err != nil {
		a.complain("plugins", err)
	}
	ready, enabled := 0, 0
	for _, p := range a.host.Status() {
		if !a.config.Plugins[p.Name].Enabled {
			continue
		}
		enabled++
		if p.State == "ready" || p.State == "degraded" {
			ready++
		}
		line := fmt.Sprintf("plugin %-10s %s", p.Name, p.State)
		if p.Message != "" {
			line += ": " + p.Message
		}
		a.say("%s", line)
	}
	if a.report != nil {
		now := bootClock()
		a.say("ready: %d of %d plugins, %.2f s after init, boot clock %.2f s", ready, enabled, (now - a.report.Timing.Init).Seconds(), now.Seconds())
		return
	}
	a.say("ready: %d of %d plugins, %.2f s after the start", ready, enabled, time.Since(a.started).Seconds())
}

// announce says how to go on: how to reach the API, or why there is no network.
func (a *appliance) announce() {
	if a.report == nil {
		if len(a.listening) > 0 {
			a.say("API on %s", strings.Join(a.listening, " and "))
		}
		return
	}
	if !a.released() {
		a.say("ISOLATED: %s", a.report.Box.Reason)
		if a.report.Box.Next != "" {
			a.say("next: %s", a.report.Box.Next)
		}
		a.say("%s", console.Hint)
		return
	}
	if !a.report.Development || a.config.API.Listen == "none" {
		return
	}
	// A development image has nobody who could issue the first certificate.
	token, err := a.tokens.Create(pki.Admin, tokenLife)
	if err != nil {
		a.complain("make a login token", err)
		return
	}
	port := a.config.API.Listen[strings.LastIndexByte(a.config.API.Listen, ':')+1:]
	a.say("development image, log in within the hour: ratchetctl login ADDRESS:%s --token %s --ca-sha256 %s", port, token, a.ca.Fingerprint())
}

// serveConsole takes commands on the console of a box, its only way in when it is isolated.
func (a *appliance) serveConsole(ctx context.Context) {
	if !a.boxed() {
		return
	}
	missing := false
	open := func() (io.ReadWriteCloser, error) {
		c, err := os.OpenFile("/dev/console", os.O_RDWR|unix.O_NOCTTY, 0)
		if err != nil && !missing {
			a.complain("console", err)
		}
		missing = err != nil
		return c, err
	}
	run := console.Program("/proc/self/exe", "unix:"+filepath.Join(a.runDir, "api.sock"))
	go console.Keep(ctx, open, console.Options{Run: run})
}

func pluginSection(p config.Plugin) plugin.Section { return plugin.Section{JSON: p.Section} }
