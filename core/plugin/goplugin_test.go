package plugin

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"os"
	"strings"
	"testing"
	"time"

	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/types/known/emptypb"
)

// TestEndpoint: go-plugin's host finds the address, the health service and the way to end it. That it is go-plugin
// indeed which does so is what the tests of core/host show.
func TestEndpoint(t *testing.T) {
	dir := t.TempDir()
	t.Setenv(goplugin.EnvUnixSocketDir, dir)
	server, client := selfSigned(t)
	e, err := newEndpoint(server, func(grpc.ServiceRegistrar) {})
	if err != nil {
		t.Fatal(err)
	}
	var line bytes.Buffer
	if err := e.announce(&line); err != nil {
		t.Fatal(err)
	}
	path := e.listener.Addr().String()
	if want := fmt.Sprintf("1|1|unix|%s|grpc|\n", path); line.String() != want || !strings.HasPrefix(path, dir) {
		t.Fatalf("announced %q, want %q below %s", line.String(), want, dir)
	}
	ended := make(chan error, 1)
	go func() { ended <- e.server.Serve(e.listener) }()

	conn, err := grpc.NewClient("unix:"+path, grpc.WithTransportCredentials(credentials.NewTLS(client)))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	health, err := grpc_health_v1.NewHealthClient(conn).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{Service: "plugin"})
	if err != nil || health.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Errorf("health: %v, %v", health, err)
	}
	// The answer may get lost with the connection.
	_ = conn.Invoke(t.Context(), "/plugin.GRPCController/Shutdown", new(emptypb.Empty), new(emptypb.Empty))
	if err := <-ended; err != nil {
		t.Errorf("ended with %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestEndpointWithoutFolder(t *testing.T) {
	t.Setenv(goplugin.EnvUnixSocketDir, "/nowhere")
	if _, err := newEndpoint(nil, func(grpc.ServiceRegistrar) {}); err == nil || !strings.Contains(err.Error(), "/nowhere") {
		t.Errorf("error %v", err)
	}
}

func selfSigned(t *testing.T) (server, client *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"plugin"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}},
		&tls.Config{RootCAs: pool, ServerName: "plugin"}
}
