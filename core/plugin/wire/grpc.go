package wire

import "google.golang.org/grpc"

// connectionBuffer is what each end of a connection between core and a plugin reads into and gathers writes in. gRPC takes
// 32 KiB for each; what goes here are orders and reports of some hundred bytes, and data has its own sockets.
const connectionBuffer = 4 << 10

// ServerOptions are those of each gRPC server between core and plugins.
func ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{grpc.ReadBufferSize(connectionBuffer), grpc.WriteBufferSize(connectionBuffer)}
}

// DialOptions are those of each gRPC client between core and plugins.
func DialOptions() []grpc.DialOption {
	return []grpc.DialOption{grpc.WithReadBufferSize(connectionBuffer), grpc.WithWriteBufferSize(connectionBuffer)}
}
