// Package client calls the management API of one box. A Client is safe for concurrent use
// and keeps its connection open between calls; Close gives it back.
package client

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"connectrpc.com/connect"

	"github.com/ratchetos/ratchet/core/api"
	"github.com/ratchetos/ratchet/core/api/apipb"
	"github.com/ratchetos/ratchet/core/api/apipb/apipbconnect"
	"github.com/ratchetos/ratchet/core/api/pki"
)

const (
	// DefaultPort is the API's port where an address names none.
	DefaultPort = "8443"

	dialTimeout = 10 * time.Second
	maxReply    = 16 << 20 // a long list of volumes with everything shown
)

// Options say which box and as whom.
type Options struct {
	// Address is "unix:/path", "HOST", "HOST:PORT" or "tcp:HOST:PORT".
	Address string
	// Credentials from a login; not needed on a unix socket.
	Credentials *Credentials
}

// Client has one field for each service.
type Client struct {
	System    apipbconnect.SystemClient
	Plugins   apipbconnect.PluginsClient
	Config    apipbconnect.ConfigClient
	Hardware  apipbconnect.HardwareClient
	Counter   apipbconnect.CounterClient
	Firmware  apipbconnect.FirmwareClient
	Admission apipbconnect.AdmissionClient
	Update    apipbconnect.UpdateClient
	Access    apipbconnect.AccessClient
	Recovery  apipbconnect.RecoveryClient

	transport *http.Transport
}

// New makes a client. It does not connect: the first call does.
func New(opts Options) (*Client, error) {
	network, address, err := ParseAddress(opts.Address)
	if err != nil {
		return nil, err
	}
	if network == "unix" {
		return build(network, address, nil), nil
	}
	if opts.Credentials == nil {
		return nil, fmt.Errorf("connect to %s: no credentials; enrol first with: ratchetctl login %s --token TOKEN --ca-sha256 DIGEST", address, address)
	}
	config, err := opts.Credentials.tls()
	if err != nil {
		return nil, err
	}
	return build(network, address, config), nil
}

func build(network, address string, config *tls.Config) *Client {
	dialer := &net.Dialer{Timeout: dialTimeout}
	t := &http.Transport{
		// The address comes from the operator; the URL only carries the name to verify.
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, address)
		},
		TLSClientConfig:     config,
		TLSHandshakeTimeout: dialTimeout,
		ForceAttemptHTTP2:   true,
		IdleConnTimeout:     time.Minute,
		MaxIdleConns:        4,
	}
	base := "http://" + pki.ServerName
	if config != nil {
		base = "https://" + pki.ServerName
	}
	h := &http.Client{Transport: t}
	limit := connect.WithReadMaxBytes(maxReply)
	return &Client{
		System:    apipbconnect.NewSystemClient(h, base, limit),
		Plugins:   apipbconnect.NewPluginsClient(h, base, limit),
		Config:    apipbconnect.NewConfigClient(h, base, limit),
		Hardware:  apipbconnect.NewHardwareClient(h, base, limit),
		Counter:   apipbconnect.NewCounterClient(h, base, limit),
		Firmware:  apipbconnect.NewFirmwareClient(h, base, limit),
		Admission: apipbconnect.NewAdmissionClient(h, base, limit),
		Update:    apipbconnect.NewUpdateClient(h, base, limit),
		Access:    apipbconnect.NewAccessClient(h, base, limit),
		Recovery:  apipbconnect.NewRecoveryClient(h, base, limit),
		transport: t,
	}
}

// Close closes idle connections.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// Invoke calls a method of a plugin's own management service. Request and reply are Go
// values with json tags; a nil request sends nothing, a nil reply drops the answer.
func (c *Client) Invoke(ctx context.Context, plugin, method string, request, reply any) error {
	r := &apipb.InvokeRequest{Plugin: plugin, Method: method}
	if request != nil {
		var err error
		if r.Json, err = json.Marshal(request); err != nil {
			return fmt.Errorf("encode request to %s/%s: %w", plugin, method, err)
		}
	}
	answer, err := c.Plugins.Invoke(ctx, r)
	if err != nil {
		return err
	}
	if reply == nil || len(answer.GetJson()) == 0 {
		return nil
	}
	if err := json.Unmarshal(answer.GetJson(), reply); err != nil {
		return fmt.Errorf("decode reply of %s/%s: %w", plugin, method, err)
	}
	return nil
}

// ParseAddress reads an address as Options names it.
func ParseAddress(s string) (network, address string, err error) {
	if path, ok := strings.CutPrefix(s, "unix:"); ok {
		if path == "" {
			return "", "", errors.New("address \"unix:\" has no path")
		}
		return "unix", path, nil
	}
	s = strings.TrimPrefix(s, "tcp:")
	if s == "" {
		return "", "", errors.New("address is empty; write HOST:PORT or unix:/PATH")
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil { // no port: a bare host or IPv6 address
		host, port = strings.Trim(s, "[]"), DefaultPort
		if strings.Contains(host, ":") && net.ParseIP(host) == nil {
			return "", "", fmt.Errorf("address %q is not HOST:PORT", s)
		}
	}
	if host == "" {
		host = "localhost"
	}
	return "tcp", net.JoinHostPort(host, port), nil
}

// Reason tells how a call failed.
type Reason int

// The reasons that ratchetctl has an exit code or an advice for.
const (
	Failed      Reason = iota
	Unreachable        // no answer from the box
	NotReleased        // the verdict keeps the hardware out of use
	Unknown            // the caller has no valid certificate
)

// ReasonOf classifies an error of any call.
func ReasonOf(err error) Reason {
	var e *connect.Error
	if !errors.As(err, &e) {
		return Failed
	}
	switch {
	case e.Meta().Get(api.ReasonHeader) == api.ReasonNotReleased:
		return NotReleased
	// Codes made by the client itself are not "wire" errors: the box has said nothing.
	case !connect.IsWireError(e) && (e.Code() == connect.CodeUnavailable || e.Code() == connect.CodeDeadlineExceeded):
		return Unreachable
	case e.Code() == connect.CodeUnauthenticated:
		return Unknown
	}
	return Failed
}
