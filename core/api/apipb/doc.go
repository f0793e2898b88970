// Package apipb holds the messages of the management API, generated from api.proto, and
// apipbconnect its clients and handlers. See package api for what they promise.
package apipb

//go:generate protoc -I . -I ../../plugin/pluginpb --go_out=. --go_opt=paths=source_relative --connect-go_out=. --connect-go_opt=paths=source_relative,simple=true api.proto
