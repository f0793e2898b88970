package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/plugins/gateway/nbd"
	"github.com/ratchetos/ratchet/plugins/gateway/volume"
)

// maxSecret bounds what is read of a file that core handed out.
const maxSecret = 1 << 20

// faces are the volumes as clients see them, by the kind of listener they come in at: who is on this machine is
// answered from the ring unless configured otherwise, who comes over a network when the write is durable, because it
// may outlive this machine.
//
// A volume that is exported through a target has one writer, its initiators; all others may read.
type faces struct {
	local, network, target nbd.Set
	exported               func(volume string) bool
}

// add exports a volume, whose ring outlives the process if ring is set; the statistics of its exports are those of the volume.
func (f *faces) add(c VolumeConfig, v *volume.Volume, ring bool) ([]*nbd.Export, error) {
	var list []*nbd.Export
	exported := f.exported != nil && f.exported(c.Name)
	for _, face := range []struct {
		set *nbd.Set
		ack string
	}{{&f.local, ackRing}, {&f.network, ackLog}, {&f.target, ackLog}} {
		if face.set == &f.target && !exported {
			continue
		}
		if c.Ack != "" {
			face.ack = c.Ack
		}
		var b nbd.Backend = backend{v}
		switch {
		case face.set == &f.target:
			b = zeroing{backend{v}}
		case ring && face.ack == ackRing:
			b = ringBackend{backend{v}}
		}
		e := &nbd.Export{Name: c.Name, Description: "cached volume", Backend: b, ReadOnly: exported && face.set != &f.target}
		if err := face.set.Add(e); err != nil {
			return list, err
		}
		list = append(list, e)
	}
	return list, nil
}

func (f *faces) remove(name string) {
	f.local.Remove(name)
	f.network.Remove(name)
	f.target.Remove(name)
}

// When a write is answered.
const (
	ackRing = "ring"
	ackLog  = "log"
)

// ackDefault is when writes through a listener are answered unless the volume says otherwise.
func ackDefault(listen string) string {
	if isLocal(listen) {
		return ackRing
	}
	return ackLog
}

func isLocal(listen string) bool { return strings.HasPrefix(listen, "unix:") }

// serveNBD starts a server on every listener.
func (f *Feature) serveNBD(ctx context.Context, c NBDConfig, handles map[string]plugin.Handle) error {
	conf, err := c.TLS.open(handles)
	if err != nil {
		return err
	}
	for i, listen := range c.Listen {
		server := &nbd.Server{Exports: f.keeper.Exports(arriving{&f.faces.network, ctx, f.runners}, ""), TLS: conf}
		if isLocal(listen) {
			server.Exports, server.TLS = f.keeper.Exports(arriving{&f.faces.local, ctx, f.runners}, ""), nil
		}
		if err := f.serve(ctx, listen, handles[wantListener(i)], server); err != nil {
			return err
		}
	}
	return nil
}

// serve runs a server on a socket that core handed out, with the connections that the process before left there.
func (f *Feature) serve(ctx context.Context, listen string, h plugin.Handle, server *nbd.Server) error {
	if h.File == nil {
		return fmt.Errorf("core handed out no socket for %s", listen)
	}
	l, err := net.FileListener(h.File)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", listen, err)
	}
	h.File.Close() // the listener has a descriptor of its own
	server.Log, server.Adopt = f.session.Log, f.inherited.at(listen)
	server.HandOn = func(c nbd.Handed) bool { return f.legacy.add(listen, c) }
	f.servers.Go(func() {
		if err := server.Serve(ctx, l); err != nil {
			f.session.Log.Error("NBD server ended", "listen", listen, "error", err)
		}
	})
	return nil
}

// open is the configured TLS, nil for none.
func (c TLSConfig) open(handles map[string]plugin.Handle) (*tls.Config, error) {
	if !c.given {
		return nil, nil
	}
	conf, err := c.load(func(field string) ([]byte, error) { return secret(handles[wantTLS(field)]) })
	if err != nil {
		return nil, fmt.Errorf("nbd.tls: %w", err)
	}
	return conf, nil
}

// errNoKey means that a volume is to be encrypted and its key cannot be had.
var errNoKey = errors.New("no encryption key")

// open is the configured key, nil for none.
func (c EncryptionConfig) open(h plugin.Handle) ([]byte, error) {
	text := c.Key
	if c.KeyFile != "" {
		p, err := secret(h)
		if err != nil {
			return nil, fmt.Errorf("%w: key_file %s: %w", errNoKey, c.KeyFile, err)
		}
		text = string(p)
	}
	if !c.given {
		return nil, nil
	}
	key, err := parseKey(text) // of an empty file, too: it must not mean that nothing is encrypted
	if err != nil {
		return nil, fmt.Errorf("%w: key_file %s: %w", errNoKey, c.KeyFile, err)
	}
	return key, nil
}

// secret reads a file that core handed out, from its start: the process before may have had the same descriptor.
func secret(h plugin.Handle) ([]byte, error) {
	if h.File == nil {
		return nil, errors.New("core handed out no such file")
	}
	p, err := io.ReadAll(io.NewSectionReader(h.File, 0, maxSecret))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", h.ID, err)
	}
	return p, nil
}
