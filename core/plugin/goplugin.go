package plugin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"

	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/ratchetos/ratchet/core/plugin/wire"
)

// endpoint is the plugin's half of go-plugin's protocol, version 1 over gRPC: a Unix socket in the folder that the host
// names, the line on standard output that tells it which, the health service and the controller whose Shutdown ends
// it. The host's half is go-plugin itself.
//
// go-plugin's own Serve is not used because of what comes with it: net/rpc and html/template call methods by names
// known at run time only, which keeps the linker from dropping any exported method of the program. That was a fifth of
// the binary. Left out is what core does not use: the broker, reflection, and the stream that standard output would be
// copied to, which the host does without if a plugin has none.
type endpoint struct {
	listener net.Listener
	server   *grpc.Server
}

// newEndpoint opens the socket; register adds the plugin's services.
func newEndpoint(config *tls.Config, register func(grpc.ServiceRegistrar)) (*endpoint, error) {
	listener, err := listenIn(os.Getenv(goplugin.EnvUnixSocketDir))
	if err != nil {
		return nil, err
	}
	e := &endpoint{listener: listener, server: grpc.NewServer(append(wire.ServerOptions(), grpc.Creds(credentials.NewTLS(config)))...)}
	status := health.NewServer()
	status.SetServingStatus(goplugin.GRPCServiceName, grpc_health_v1.HealthCheckResponse_SERVING)
	grpc_health_v1.RegisterHealthServer(e.server, status)
	e.server.RegisterService(controller(), e)
	register(e.server)
	return e, nil
}

// listenIn listens on a new socket in the folder.
func listenIn(dir string) (net.Listener, error) {
	// A name that nobody else has: that of a file which makes place for the socket.
	f, err := os.CreateTemp(dir, "plugin")
	if err != nil {
		return nil, fmt.Errorf("make plugin socket: %w", err)
	}
	if err := errors.Join(f.Close(), os.Remove(f.Name())); err != nil {
		return nil, fmt.Errorf("make plugin socket: %w", err)
	}
	l, err := net.Listen("unix", f.Name())
	if err != nil {
		return nil, fmt.Errorf("make plugin socket: %w", err)
	}
	return l, nil
}

// announce tells the host where to connect: core protocol, protocol of the application, address, transport, and a
// certificate that is empty because both sides have theirs from the host.
func (e *endpoint) announce(w io.Writer) error {
	address := e.listener.Addr()
	_, err := fmt.Fprintf(w, "%d|%d|%s|%s|%s|\n", goplugin.CoreProtocolVersion, wire.Handshake().ProtocolVersion,
		address.Network(), address, goplugin.ProtocolGRPC)
	if err != nil {
		return fmt.Errorf("tell core the plugin's address: %w", err)
	}
	return nil
}

// serve returns when the host called Shutdown. An interrupt from a terminal is for the host to deal with.
func (e *endpoint) serve() error {
	signal.Ignore(os.Interrupt)
	if err := e.announce(os.Stdout); err != nil {
		e.listener.Close()
		return err
	}
	if err := e.server.Serve(e.listener); err != nil { // closes the listener, which removes the socket
		return fmt.Errorf("serve the plugin's contract: %w", err)
	}
	return nil
}

// shutdown ends every connection; the caller's too, so that it gets no answer and expects none.
func (e *endpoint) shutdown() { e.server.Stop() }

// controller describes go-plugin's service of that name. Its empty messages are those of protobuf on the wire.
func controller() *grpc.ServiceDesc {
	return &grpc.ServiceDesc{
		ServiceName: "plugin.GRPCController",
		HandlerType: (*interface{ shutdown() })(nil),
		Methods: []grpc.MethodDesc{{
			MethodName: "Shutdown",
			Handler: func(srv any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
				if err := decode(new(emptypb.Empty)); err != nil {
					return nil, err
				}
				srv.(interface{ shutdown() }).shutdown()
				return new(emptypb.Empty), nil
			},
		}},
	}
}
