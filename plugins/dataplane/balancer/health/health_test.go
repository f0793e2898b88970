package health

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	grpchealth "google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestStreak(t *testing.T) {
	for _, c := range []struct{ results, want string }{
		{"+", "u"},
		{"-", "d"},
		{"+--", "uuu"},
		{"+---", "uuud"},
		{"+--+--", "uuuuuu"},
		{"-+", "dd"},
		{"-++", "ddu"},
		{"-+-+", "dddd"},
		{"+---++", "uuuddu"},
	} {
		var s Streak
		got := ""
		for i, r := range c.results {
			before := s
			changed := s.Result(r == '+', 2, 3)
			if changed != (i == 0 || before.Up != s.Up) {
				t.Errorf("%s: changed is %v at %d", c.results, changed, i)
			}
			got += map[bool]string{true: "u", false: "d"}[s.Up]
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.results, got, c.want)
		}
	}
}

// listen serves on a port of loopback until the test ends.
func port(l net.Listener) uint16 { return l.Addr().(*net.TCPAddr).AddrPort().Port() }

func TestChecks(t *testing.T) {
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/moved":
			http.Redirect(w, r, "/", http.StatusFound)
		case r.URL.Path == "/host" && r.Host != "shop.example":
			w.WriteHeader(http.StatusMisdirectedRequest)
		case r.URL.Path == "/broken":
			w.WriteHeader(http.StatusServiceUnavailable)
		case r.URL.Path == "/slow":
			<-r.Context().Done()
		}
	}))
	defer web.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	status := grpchealth.NewServer()
	status.SetServingStatus("shop", grpc_health_v1.HealthCheckResponse_SERVING)
	status.SetServingStatus("till", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	calls := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(calls, status)
	go calls.Serve(l)
	defer calls.Stop()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()

	webPort, grpcPort := port(web.Listener), port(l)
	for _, c := range []struct {
		name  string
		check Check
		up    bool
	}{
		{"tcp", Check{Kind: TCP, Port: webPort}, true},
		{"tcp, nobody listens", Check{Kind: TCP, Port: port(closed)}, false},
		{"http", Check{Kind: HTTP, Port: webPort}, true},
		{"http, wanted status", Check{Kind: HTTP, Port: webPort, Path: "/moved", Status: 302}, true},
		{"http, redirect", Check{Kind: HTTP, Port: webPort, Path: "/moved"}, false},
		{"http, host", Check{Kind: HTTP, Port: webPort, Path: "/host", Host: "shop.example"}, true},
		{"http, other host", Check{Kind: HTTP, Port: webPort, Path: "/host"}, false},
		{"http, 503", Check{Kind: HTTP, Port: webPort, Path: "/broken"}, false},
		{"http, no answer", Check{Kind: HTTP, Port: webPort, Path: "/slow"}, false},
		{"grpc", Check{Kind: GRPC, Port: grpcPort}, true},
		{"grpc service", Check{Kind: GRPC, Port: grpcPort, Service: "shop"}, true},
		{"grpc not serving", Check{Kind: GRPC, Port: grpcPort, Service: "till"}, false},
		{"grpc unknown service", Check{Kind: GRPC, Port: grpcPort, Service: "nothing"}, false},
		{"grpc, a web server", Check{Kind: GRPC, Port: webPort}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			if c.check.Path == "/slow" {
				cancel()
				ctx, cancel = context.WithTimeout(t.Context(), 20*time.Millisecond)
			}
			defer cancel()
			err := probe(ctx, (&net.Dialer{}).DialContext, Target{netip.MustParseAddr("127.0.0.1"), c.check})
			if (err == nil) != c.up {
				t.Errorf("%v: %v, want up %v", c.check, err, c.up)
			}
		})
	}
}

// A target goes down after its server is closed and is told about once; one that is taken out is not told about.
func TestMonitorTells(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	states := make(chan State, 16)
	m := NewMonitor(Options{Changed: func(_ Target, s State) { states <- s }})
	defer m.Close()
	target := Target{netip.MustParseAddr("127.0.0.1"), Check{Port: port(l), Interval: 5 * time.Millisecond, Timeout: time.Second, Rise: 2, Fall: 3}}
	m.Set([]Target{target})
	if s := <-states; !s.Up {
		t.Fatalf("a server that listens: %+v", s)
	}
	l.Close()
	if s := <-states; s.Up || s.Why == "" {
		t.Errorf("a closed server: %+v", s)
	}
	if s := m.State(target); s.Up || !s.Known {
		t.Errorf("state %+v", s)
	}
	m.Set(nil)
	if s := m.State(target); s.Known {
		t.Errorf("a target that was taken out: %+v", s)
	}
}

// A rack that loses its power, whose machines answer nothing at all, is down when the checks say, and holds up nobody
// else's check.
func TestManyAreSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var dark atomic.Bool
		m := NewMonitor(Options{Dial: func(ctx context.Context, _, address string) (net.Conn, error) {
			if dark.Load() && !strings.HasPrefix(address, "10.9.") {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			c, other := net.Pipe()
			other.Close()
			return c, nil
		}})
		defer m.Close()
		check := Check{Port: 80, Interval: 2 * time.Second, Timeout: time.Second, Rise: 2, Fall: 3}
		targets := []Target{{netip.MustParseAddr("10.9.0.1"), check}}
		for i := range 500 {
			targets = append(targets, Target{netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), check})
		}
		m.Set(targets)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		dark.Store(true)
		time.Sleep(time.Duration(check.Fall) * (check.Interval*11/10 + check.Timeout))
		synctest.Wait()
		for i, target := range targets {
			if s := m.State(target); s.Up != (i == 0) {
				t.Fatalf("target %d is up: %v", i, s.Up)
			}
		}
	})
}

func FuzzServing(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 2, 8, 1})
	f.Add([]byte{0, 0, 0, 0, 0})
	f.Add([]byte{0, 0, 0, 0, 3, 18, 1, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if status, err := serving(b); err != nil && status != 0 {
			t.Errorf("status %d beside %v", status, err)
		}
	})
}
