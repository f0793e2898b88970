package bench

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/plugins/gateway/nbd"
	"github.com/ratchetos/ratchet/plugins/gateway/nbd/nbdtest"
)

func TestDone(t *testing.T) {
	for _, c := range []struct {
		output string
		want   bool
	}{
		{"read 512/512 bytes at offset 0\n512 bytes, 1 ops; 00.00 sec", true},
		{"Pattern verification failed at offset 0, 512 bytes\nread 512/512 bytes at offset 0", false},
		{"read failed: Input/output error", false},
		{"read 256/512 bytes at offset 0", false},
		{"wrote 512/512 bytes at offset 0", false},
		{"", false},
	} {
		if got := done(c.output, "read", 512); got != c.want {
			t.Errorf("done(%q) = %t, want %t", c.output, got, c.want)
		}
	}
}

// TestQemuIO has the conversation of the bench with QEMU's real client, whose server goes away and comes back.
func TestQemuIO(t *testing.T) {
	exports := new(nbd.Set)
	if err := exports.Add(&nbd.Export{Name: volume, Backend: nbdtest.NewMemory(4 * mib)}); err != nil {
		t.Fatal(err)
	}
	address := ""
	serve := func() (stop func()) {
		at := address
		if at == "" {
			at = "127.0.0.1:0"
		}
		l, err := net.Listen("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		address = l.Addr().String()
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			if err := (&nbd.Server{Exports: exports}).Serve(ctx, l); err != nil {
				t.Errorf("serve: %v", err)
			}
		}()
		return func() {
			cancel()
			<-ended
		}
	}
	stop := serve()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	q, err := startQemuIO(ctx, address, volume)
	if err != nil {
		t.Fatal(err)
	}
	defer q.stop()
	expect := func(command string, want bool, verb string) {
		t.Helper()
		out, err := q.do("%s", command)
		if err != nil {
			t.Fatal(err)
		}
		if done(out, verb, chunk) != want {
			t.Errorf("%s printed %q", command, out)
		}
	}
	expect("write -P 7 0 65536", true, "wrote")
	expect("read -P 8 0 65536", false, "read")
	stop()
	stop = serve()
	defer func() { stop() }()
	expect("read -P 7 0 65536", true, "read")
	if out, err := q.do("flush"); err != nil || out != "" {
		t.Errorf("flush printed %q, %v", out, err)
	}
	if _, err := startQemuIO(ctx, address, "absent"); err == nil || !strings.Contains(err.Error(), "absent") {
		t.Errorf("an export that is not there: error %v", err)
	}
}
