package enrol

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
)

// memory is a state store.
type memory map[string][]byte

func (m memory) Get(_ context.Context, key string) ([]byte, error)     { return m[key], nil }
func (m memory) Put(_ context.Context, key string, value []byte) error { m[key] = value; return nil }

func (m memory) Delete(_ context.Context, key string) error { delete(m, key); return nil }

func (m memory) List(_ context.Context, prefix string) ([]string, error) {
	var keys []string
	for k := range m {
		if strings.HasPrefix(k, prefix) {
			keys = append(keys, k)
		}
	}
	return keys, nil
}

var use = Use{Prefix: "x/", Authority: "test hosts", Box: "manager.test", HostServes: true, Command: "hosts list"}

func enrolled(t *testing.T, a *Authority, name string) *Identity {
	t.Helper()
	b, err := a.Enroll(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	id, err := ParseIdentity(b)
	if err != nil || id.Name != name {
		t.Fatalf("identity of %s: %+v, %v", name, id, err)
	}
	return id
}

func authority(t *testing.T, s State) *Authority {
	t.Helper()
	a, err := Open(t.Context(), s, use)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// shake returns what either side says of a handshake and of the first byte from the server.
func shake(server, client *tls.Config) error {
	there, here := net.Pipe()
	done := make(chan error, 1)
	go func() {
		defer there.Close()
		c := tls.Server(there, server)
		_, err := c.Write([]byte{1})
		done <- err
	}()
	c := tls.Client(here, client)
	_, err := io.ReadFull(c, make([]byte, 1))
	here.Close()
	return errors.Join(err, <-done)
}

// forgetful is a state store whose next put is done, and its caller does not learn of it: the command was interrupted.
type forgetful struct {
	memory
	interrupted bool
}

func (f *forgetful) Put(ctx context.Context, key string, value []byte) error {
	if err := f.memory.Put(ctx, key, value); err != nil || !f.interrupted {
		return err
	}
	f.interrupted = false
	return context.Canceled
}

// TestInterruptedEnrolment: the file that is made after an enrolment that was interrupted is the valid one, also when the box has started
// again, and a host that is revoked is gone.
func TestInterruptedEnrolment(t *testing.T) {
	state := &forgetful{memory: memory{}}
	a := authority(t, state)
	for range 8 { // the ghost's serial number may be lower or higher
		state.interrupted = true
		if _, err := a.Enroll(t.Context(), "h"); err == nil {
			t.Fatal("nobody was told")
		}
		id := enrolled(t, a, "h")
		cert, err := x509.ParseCertificate(id.cert.Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		if a = authority(t, state); !a.Valid(cert) {
			t.Error("the newest file is not valid when the box has started again")
		}
	}
	state.interrupted = true
	if _, err := a.Enroll(t.Context(), "h"); err == nil {
		t.Fatal("nobody was told")
	}
	if err := authority(t, state).Revoke(t.Context(), "h"); err != nil {
		t.Error(err)
	}
	if names := authority(t, state).Names(); len(names) > 0 {
		t.Errorf("revoked and enrolled: %v", names)
	}
}

// TestWhoIsLetIn: a box dials its hosts, hosts know it by its name, and a file that was replaced is refused.
func TestWhoIsLetIn(t *testing.T) {
	state := memory{}
	a := authority(t, state)
	h1, h2 := enrolled(t, a, "h1"), enrolled(t, a, "h2")
	stranger := authority(t, memory{})
	box := func(a *Authority, host string) *tls.Config {
		c, err := a.ClientTLS(host)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	again := authority(t, state) // after a restart
	for name, c := range map[string]struct {
		server *tls.Config
		client *tls.Config
		want   string
	}{
		"the box":               {h1.ServerTLS(use.Box), box(a, "h1"), ""},
		"the box, restarted":    {h1.ServerTLS(use.Box), box(again, "h1"), ""},
		"another box":           {h1.ServerTLS(use.Box), box(stranger, "h1"), "unknown authority"},
		"another host":          {h1.ServerTLS(use.Box), h2.ClientTLS("h1"), "h2 is not the box"},
		"to the wrong host":     {h2.ServerTLS(use.Box), box(a, "h1"), "not h1"},
		"host to host, by name": {h1.ServerTLS("h2"), h2.ClientTLS("h1"), ""},
	} {
		err := shake(c.server, c.client)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	enrolled(t, a, "h1")
	if err := shake(h1.ServerTLS(use.Box), box(a, "h1")); err == nil || !strings.Contains(err.Error(), "revoked or replaced") {
		t.Errorf("the older file of a host: %v", err)
	}
	if err := a.Revoke(t.Context(), "h2"); err != nil {
		t.Error(err)
	}
	if err := shake(h2.ServerTLS(use.Box), box(authority(t, state), "h2")); err == nil {
		t.Error("a revoked host was let in after a restart")
	}
	if err := a.Revoke(t.Context(), "h9"); err == nil || !strings.Contains(err.Error(), use.Command) {
		t.Errorf("revoke of a host that never was: %v", err)
	}
	if got := a.Names(); len(got) != 1 || got[0] != "h1" {
		t.Errorf("enrolled: %v", got)
	}
}

// A clock that is decades off, on either side, changes nothing: none is asked.
func TestCertificatesKnowNoClock(t *testing.T) {
	a := authority(t, memory{})
	id := enrolled(t, a, "web-1")
	box, err := a.ServerTLS()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]*tls.Config{"box": box, "host": id.ClientTLS(use.Box)} {
		if c.Time == nil || !c.Time().Equal(timeless()) || c.Time().Before(id.ca.NotBefore) || c.Time().After(id.ca.NotAfter) {
			t.Errorf("the %s checks certificates of %v to %v by another time than its own", name, id.ca.NotBefore, id.ca.NotAfter)
		}
	}
}

// The parts that other programs read are the whole file again.
func TestParts(t *testing.T) {
	id := enrolled(t, authority(t, memory{}), "h1")
	cert, key, ca, err := id.PEM()
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseIdentity(append(append(cert, key...), ca...))
	if err != nil || again.Name != "h1" || !again.ca.Equal(id.ca) {
		t.Errorf("%+v, %v", again, err)
	}
}

func FuzzIdentity(f *testing.F) {
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if id, err := ParseIdentity(b); err == nil && CheckName(id.Name) != nil {
			t.Errorf("identity of %q", id.Name)
		}
	})
}
