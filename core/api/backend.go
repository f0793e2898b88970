package api

import (
	"context"
	"errors"

	"github.com/ratchetos/ratchet/core/api/apipb"
)

// Backend is the appliance as the API sees it. Methods are called concurrently and obey
// their context. Errors that wrap one of the sentinels below are told apart by clients; any
// other is an internal failure. All of them reach the operator: they say what to do next.
type Backend interface {
	// Status fills everything but Plugins, which the server adds.
	Status(ctx context.Context) (*apipb.StatusReply, error)
	Version(ctx context.Context) (*apipb.VersionReply, error)
	// Power begins the ordered end and returns before it happens.
	Power(ctx context.Context, action apipb.PowerAction) error

	// Plugins is cheap: it is called for every scrape of the metrics.
	Plugins(ctx context.Context) ([]*apipb.Plugin, error)
	// RestartPlugin drains a plugin and starts it again; with kill it ends the process at once, for one that hangs.
	RestartPlugin(ctx context.Context, plugin string, kill bool) error
	// PluginLogs emits the last tail lines (all when 0) and with follow goes on until ctx
	// ends or emit fails. It returns nil when ctx ends.
	PluginLogs(ctx context.Context, plugin string, tail int, follow bool, emit func(*apipb.LogLine) error) error
	Invoke(ctx context.Context, plugin, method string, request []byte, caller string) ([]byte, error)

	ShowConfig(ctx context.Context) (*apipb.ShowConfigReply, error)
	CheckConfig(ctx context.Context, name string, yaml []byte) ([]*apipb.ConfigDiagnostic, error)
	// ApplyConfig checks first. Diagnostics with errors are a reply, not an error.
	ApplyConfig(ctx context.Context, request *apipb.ApplyConfigRequest) (*apipb.ApplyConfigReply, error)
	ConfirmConfig(ctx context.Context) error

	Hardware(ctx context.Context) ([]*apipb.Device, error)
	ClaimDevice(ctx context.Context, selector string, erase bool) (*apipb.Device, error)
	ReleaseDevice(ctx context.Context, selector string) error

	Counter(ctx context.Context) (*apipb.ShowCounterReply, error)

	FirmwareBackend
	UpdateBackend
	RecoveryBackend
}

var (
	// ErrNotFound says that there is no such plugin, method or device.
	ErrNotFound = errors.New("not found")
	// ErrInvalid says that the request cannot be right, whatever the state of the box.
	ErrInvalid = errors.New("invalid request")
	// ErrNotReleased says that the verdict keeps the hardware out of use.
	ErrNotReleased = errors.New("hardware is not released")
	// ErrPrecondition says that it cannot be done in this state: to claim a disk with foreign
	// content, say, without erase.
	ErrPrecondition = errors.New("not possible now")
	// ErrUnavailable says that the part that would answer is not running; trying again may help.
	ErrUnavailable = errors.New("not available")
)
