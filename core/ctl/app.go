package ctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"github.com/ratchetos/ratchet/core/api"
	"github.com/ratchetos/ratchet/core/api/apipb"
	"github.com/ratchetos/ratchet/core/api/client"
	"github.com/ratchetos/ratchet/core/plugin"
)

// App is one run of ratchetctl. Commands of plugins get it to reach the box and to print.
type App struct {
	In       io.Reader
	Out, Err io.Writer
	// Features are the built-in plugins, for checks without a box.
	Features []plugin.Feature

	address   string
	configDir string
	context   string
	output    string
	socket    string // api.SocketPath but in tests

	client *client.Client
	shown  *apipb.ShowConfigReply // see running
}

// hostOf is the host of an address of the API, "" for a socket of this machine.
func hostOf(address string) string {
	if strings.HasPrefix(address, "unix:") {
		return ""
	}
	if host, _, err := net.SplitHostPort(address); err == nil {
		return host
	}
	return strings.Trim(address, "[]")
}

// Client connects to the box that the flags select. All commands of one run share it.
func (a *App) Client() (*client.Client, error) {
	if a.client != nil {
		return a.client, nil
	}
	opts, err := a.target()
	if err != nil {
		return nil, err
	}
	if a.client, err = client.New(opts); err == nil && opts.Credentials != nil {
		if end := opts.Credentials.Ends(); time.Until(end) < soon {
			a.say("the certificate of this login ends on %s: get a new token (ratchetctl token) and log in again before that", end.Format(time.DateOnly))
		}
	}
	return a.client, err
}

// soon is when a login's end is said with every command. Whoever misses it has to go to the box for a token, unless
// somebody else is still logged in.
const soon = 30 * 24 * time.Hour

// Invoke calls a method of a plugin's own management service; see client.Client.Invoke.
func (a *App) Invoke(ctx context.Context, plugin, method string, request, reply any) error {
	c, err := a.Client()
	if err != nil {
		return err
	}
	return c.Invoke(ctx, plugin, method, request, reply)
}

// target: what the flags say, else the box we are on, else the box of the last login.
func (a *App) target() (client.Options, error) {
	if a.address != "" {
		if strings.HasPrefix(a.address, "unix:") {
			return client.Options{Address: a.address}, nil
		}
		name, err := a.contextFor(a.address)
		if err != nil {
			return client.Options{}, err
		}
		opts, err := a.load(name)
		opts.Address = a.address
		return opts, err
	}
	if a.context == "" {
		if _, err := os.Stat(a.socket); err == nil {
			return client.Options{Address: "unix:" + a.socket}, nil
		}
	}
	name, err := a.currentContext()
	if err != nil {
		return client.Options{}, err
	}
	return a.load(name)
}

const addressFile = "address"

func (a *App) contextDir(name string) string {
	return filepath.Join(a.configDir, "contexts", name)
}

// contexts are the names of all logins.
func (a *App) contexts() (names []string) {
	entries, _ := os.ReadDir(filepath.Join(a.configDir, "contexts")) // missing: no login yet
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func (a *App) currentContext() (string, error) {
	if a.context != "" {
		return a.context, nil
	}
	name, err := os.ReadFile(filepath.Join(a.configDir, "current"))
	switch {
	case errors.Is(err, fs.ErrNotExist) && a.address != "":
		return "", fmt.Errorf("no login to %s is known; the box prints the command to type: ratchetctl login %s --token … --ca-sha256 …", a.address, a.address)
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("no box is known: run this on the box (%s is missing here), or log in with the command that the box prints (ratchetctl login …)", api.SocketPath)
	}
	return strings.TrimSpace(string(name)), err
}

// contextFor finds the login made at an address; the current one if there is none.
func (a *App) contextFor(address string) (string, error) {
	if a.context == "" {
		for _, name := range a.contexts() {
			known, err := os.ReadFile(filepath.Join(a.contextDir(name), addressFile))
			if err == nil && strings.TrimSpace(string(known)) == address {
				return name, nil
			}
		}
	}
	return a.currentContext()
}

func (a *App) load(name string) (client.Options, error) {
	if name == "" || name != filepath.Base(name) || name == ".." || name == "." {
		return client.Options{}, usage(fmt.Errorf("context %q is not a plain name", name))
	}
	address, err := os.ReadFile(filepath.Join(a.contextDir(name), addressFile))
	if err != nil {
		return client.Options{}, fmt.Errorf("no login named %q; log in with: ratchetctl login ADDRESS --name %s …", name, name)
	}
	creds, err := client.Load(a.contextDir(name))
	return client.Options{Address: strings.TrimSpace(string(address)), Credentials: creds}, err
}

// save keeps a login and makes it the current one.
func (a *App) save(name, address string, creds *client.Credentials) error {
	if err := creds.Save(a.contextDir(name)); err != nil {
		return err
	}
	for path, text := range map[string]string{
		filepath.Join(a.contextDir(name), addressFile): address,
		filepath.Join(a.configDir, "current"):          name,
	} {
		if err := renameio.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
			return fmt.Errorf("save login: %w", err)
		}
	}
	return nil
}

// defaultConfigDir follows the XDG rules; on a box without a home it is not used.
func defaultConfigDir() string {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "/etc/ratchet"
	}
	return filepath.Join(dir, "ratchet")
}
