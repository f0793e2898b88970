package health

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// Kind of a check.
type Kind int

// Values of Kind.
const (
	TCP Kind = iota
	HTTP
	GRPC
)

// Check is what is asked, and how often.
type Check struct {
	Kind Kind
	Port uint16
	// Path, Host and Status are HTTP's: "/", the backend's address and any 2xx when empty.
	Path, Host string
	Status     int
	// Service is gRPC's: the whole server when empty.
	Service string

	Interval, Timeout time.Duration
	Rise, Fall        int
}

// Target is one backend and its check.
type Target struct {
	Address netip.Addr
	Check   Check
}

// Dial opens connections; net.Dialer's DialContext is one.
type Dial func(ctx context.Context, network, address string) (net.Conn, error)

// maxAnswer bounds what is read of an answer's body.
const maxAnswer = 4096

// probe runs one check; ctx carries its timeout.
func probe(ctx context.Context, dial Dial, t Target) error {
	address := netip.AddrPortFrom(t.Address, t.Check.Port).String()
	switch t.Check.Kind {
	case HTTP:
		return probeHTTP(ctx, dial, address, t.Check)
	case GRPC:
		return probeGRPC(ctx, dial, address, t.Check.Service)
	default:
		c, err := dial(ctx, "tcp", address)
		if err != nil {
			return err
		}
		return c.Close()
	}
}

func probeHTTP(ctx context.Context, dial Dial, address string, c Check) error {
	path := c.Path
	if path == "" {
		path = "/"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+path, nil)
	if err != nil {
		return err
	}
	if c.Host != "" {
		req.Host = c.Host
	}
	req.Header.Set("User-Agent", "ratchet-health")
	res, err := transport(dial, false).RoundTrip(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if c.Status == res.StatusCode || c.Status == 0 && res.StatusCode/100 == 2 {
		return nil
	}
	return fmt.Errorf("status %s", res.Status)
}

// transport is for one request: a check that reuses a connection does not see that no new one can be opened.
func transport(dial Dial, cleartextHTTP2 bool) *http.Transport {
	t := &http.Transport{DialContext: dial, DisableKeepAlives: true, DisableCompression: true}
	if cleartextHTTP2 {
		t.DisableKeepAlives = false // HTTP/2 has no connection per request; probeGRPC closes it
		t.Protocols = new(http.Protocols)
		t.Protocols.SetUnencryptedHTTP2(true)
	}
	return t
}

// probeGRPC calls grpc.health.v1.Health/Check: one message of one field each way, so that no gRPC library is needed.
func probeGRPC(ctx context.Context, dial Dial, address, service string) error {
	message := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), service)
	if service == "" {
		message = nil
	}
	body := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message)))
	body = append(body, message...)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+"/grpc.health.v1.Health/Check", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("Te", "trailers")
	rt := transport(dial, true)
	defer rt.CloseIdleConnections()
	res, err := rt.RoundTrip(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	return judgeGRPC(res, answer)
}

func judgeGRPC(res *http.Response, answer []byte) error {
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("status %s", res.Status)
	}
	// A call without an answer has its status in the headers.
	for _, h := range []http.Header{res.Trailer, res.Header} {
		if s := h.Get("Grpc-Status"); s != "" && s != "0" {
			return fmt.Errorf("grpc status %s: %s", s, h.Get("Grpc-Message"))
		}
	}
	status, err := serving(answer)
	if err != nil {
		return err
	}
	if status != 1 {
		return fmt.Errorf("health status %s, not SERVING", [...]string{"UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"}[min(status, 3)])
	}
	return nil
}

// serving reads the status of a HealthCheckResponse in its gRPC frame.
func serving(b []byte) (uint64, error) {
	if len(b) < 5 || b[0] != 0 || uint64(binary.BigEndian.Uint32(b[1:])) != uint64(len(b)-5) {
		return 0, errors.New("answer is not one gRPC message")
	}
	var status uint64
	for b = b[5:]; len(b) > 0; {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return 0, fmt.Errorf("parse answer: %w", protowire.ParseError(n))
		}
		b = b[n:]
		if number == 1 && kind == protowire.VarintType {
			if status, n = protowire.ConsumeVarint(b); n < 0 {
				return 0, fmt.Errorf("parse answer: %w", protowire.ParseError(n))
			}
		} else if n = protowire.ConsumeFieldValue(number, kind, b); n < 0 {
			return 0, fmt.Errorf("parse answer: %w", protowire.ParseError(n))
		}
		b = b[n:]
	}
	return status, nil
}

// String is how operators read a check.
func (c Check) String() string {
	port := strconv.Itoa(int(c.Port))
	switch c.Kind {
	case HTTP:
		return "http :" + port + c.Path
	case GRPC:
		return "grpc :" + port + " " + c.Service
	default:
		return "tcp :" + port
	}
}
