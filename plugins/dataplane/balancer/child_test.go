package balancer

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/plugins/dataplane/control"
)

// serve is the process: a control server and the part, until it is killed or its input ends.
func serve(file string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var c processConfig
	if err := json.Unmarshal(b, &c); err != nil {
		return err
	}
	ctx := context.Background()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	l, err := net.Listen("tcp", c.Address+":7400")
	if err != nil {
		return err
	}
	packets, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(l.Addr().(*net.TCPAddr).AddrPort()))
	if err != nil {
		return err
	}
	authority, err := control.OpenAuthority(ctx, dirState(c.State))
	if err != nil {
		return err
	}
	server, err := control.NewServer(control.ServerOptions{Authority: authority, Listener: l, Packets: packets, Log: log})
	if err != nil {
		return err
	}
	part := New(Options{Log: log, Pins: c.Pins, State: dirState(c.State), Control: server, Link: func(name string) (int, int, bool) {
		i, err := net.InterfaceByName(name)
		if err != nil {
			return 0, 0, false
		}
		return i.Index, i.MTU, true
	}})
	go server.Serve(ctx)
	var v plugin.Validation
	d := Parse("balancer", c.Balancer, &v)
	if err := v.Err(); err != nil {
		return err
	}
	if err := part.Start(ctx, d); err != nil {
		return err
	}
	fmt.Println("started")
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		out, err := part.Invoke(ctx, in.Text(), nil)
		if err != nil {
			return err
		}
		fmt.Println(string(out))
	}
	return part.Stop(ctx)
}

// dirState is a state store in a directory, one file a key.
type dirState string

func (d dirState) path(key string) string { return filepath.Join(string(d), url.QueryEscape(key)) }

func (d dirState) Get(_ context.Context, key string) ([]byte, error) {
	b, err := os.ReadFile(d.path(key))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

func (d dirState) Put(_ context.Context, key string, value []byte) error {
	return os.WriteFile(d.path(key), value, 0o600)
}

func (d dirState) Delete(_ context.Context, key string) error { return os.Remove(d.path(key)) }

func (d dirState) List(_ context.Context, prefix string) ([]string, error) {
	all, err := os.ReadDir(string(d))
	var keys []string
	for _, e := range all {
		if key, _ := url.QueryUnescape(e.Name()); strings.HasPrefix(key, prefix) {
			keys = append(keys, key)
		}
	}
	return keys, err
}
