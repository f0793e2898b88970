package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/hw/nic/netif"
)

// Limits of one fetch. A switch port with spanning tree forwards after up to 30 s.
const (
	carrierLimit = 15 * time.Second
	look         = 50 * time.Millisecond
	dhcpWait     = time.Second // for the first answer; each try waits twice as long
	dhcpTries    = 5
	dialLimit    = 45 * time.Second
	answerLimit  = 30 * time.Second
	stallLimit   = 30 * time.Second // without a byte
	wholeLimit   = time.Hour
)

// Get writes the file to w, at most limit bytes of it. The interface is down afterwards.
func Get(ctx context.Context, name string, from From, limit int64, w io.Writer) (err error) {
	ctx, cancel := context.WithTimeout(ctx, wholeLimit)
	defer cancel()
	l, err := netif.Open(name)
	if err != nil {
		return err
	}
	defer l.Close()
	defer func() { err = errors.Join(err, l.Down()) }()
	if err := l.Up(); err != nil {
		return err
	}
	if err := carrier(ctx, l, name); err != nil {
		return err
	}
	if !from.Address.IsValid() {
		if from.Address, from.Gateway, err = lease(ctx, name); err != nil {
			return err
		}
	}
	if err := l.AddAddress(from.Address); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.DeleteAddress(from.Address)) }()
	if from.Gateway.IsValid() {
		any := netip.PrefixFrom(from.Gateway, 0).Masked()
		if err := l.ReplaceRoute(netif.Route{To: any, Via: from.Gateway}, netif.ProtocolStatic); err != nil {
			return err
		}
	}
	return download(ctx, cancel, from, limit, w)
}

func carrier(ctx context.Context, l *netif.Link, name string) error {
	for waited := time.Duration(0); ; waited += look {
		switch s, err := l.Observe(); {
		case err != nil:
			return err
		case s.Carrier:
			return nil
		case waited >= carrierLimit:
			return fmt.Errorf("no carrier on %s after %s: is a cable plugged in?", name, carrierLimit)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(look):
		}
	}
}

// lease asks for an address. It is not given back: the server's clock ends it.
func lease(ctx context.Context, name string) (netip.Prefix, netip.Addr, error) {
	c, err := nclient4.New(name, nclient4.WithTimeout(dhcpWait), nclient4.WithRetry(dhcpTries))
	if err != nil {
		return netip.Prefix{}, netip.Addr{}, fmt.Errorf("open DHCP on %s: %w", name, err)
	}
	defer c.Close()
	granted, err := c.Request(ctx, dhcpv4.WithRequestedOptions(dhcpv4.OptionSubnetMask, dhcpv4.OptionRouter))
	if err != nil {
		return netip.Prefix{}, netip.Addr{}, fmt.Errorf("no address by DHCP on %s: %w; give one: reflash SLOT URL ADDRESS/LENGTH", name, err)
	}
	a, ok := netip.AddrFromSlice(granted.ACK.YourIPAddr.To4())
	if !ok || a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() {
		return netip.Prefix{}, netip.Addr{}, fmt.Errorf("the DHCP server offers %s, which is no host's address", granted.ACK.YourIPAddr)
	}
	bits := a.BitLen() // without a mask nothing is known about the network
	if ones, size := granted.ACK.SubnetMask().Size(); size == bits && ones > 0 {
		bits = ones
	}
	own := netip.PrefixFrom(a, bits)
	for _, r := range granted.ACK.Router() {
		if via, ok := netip.AddrFromSlice(r.To4()); ok && own.Contains(via) {
			return own, via, nil
		}
	}
	return own, netip.Addr{}, nil
}

func download(ctx context.Context, cancel context.CancelFunc, from From, limit int64, w io.Writer) error {
	client := http.Client{
		Transport: &http.Transport{
			DialContext:       dial,
			DisableKeepAlives: true, DisableCompression: true, ResponseHeaderTimeout: answerLimit,
		},
		CheckRedirect: func(r *http.Request, _ []*http.Request) error {
			return fmt.Errorf("the server sends on to %s; give that address", r.URL)
		},
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from.URL.String(), nil)
	if err != nil {
		return err
	}
	res, err := client.Do(req)
	if refused := (*url.Error)(nil); errors.As(err, &refused) {
		err = refused.Err // the rest of its text is said here
	}
	if err != nil {
		return fmt.Errorf("get %s: %w", from.URL, err)
	}
	defer res.Body.Close()
	switch {
	case res.StatusCode != http.StatusOK:
		return fmt.Errorf("get %s: the server answers %s", from.URL, res.Status)
	case res.ContentLength > limit:
		return fmt.Errorf("get %s: %d bytes, at most %d are taken", from.URL, res.ContentLength, limit)
	}
	stalled := time.AfterFunc(stallLimit, cancel)
	defer stalled.Stop()
	n, err := io.Copy(w, io.LimitReader(moving{res.Body, stalled}, limit+1))
	switch {
	case err != nil && ctx.Err() != nil:
		return fmt.Errorf("get %s: stopped after %d bytes: %w", from.URL, n, err)
	case err != nil:
		return fmt.Errorf("get %s: %w", from.URL, err)
	case n > limit:
		return fmt.Errorf("get %s: more than %d bytes", from.URL, limit)
	}
	return nil
}

// dial waits for the interface's address: one of IPv6 cannot be used until the kernel knows that no other host has it.
func dial(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	for {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		if !errors.Is(err, unix.EADDRNOTAVAIL) {
			return conn, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(look):
		}
	}
}

// moving puts the stall off with every byte.
type moving struct {
	io.Reader
	stalled *time.Timer
}

// Read implements io.Reader.
func (m moving) Read(b []byte) (int, error) {
	n, err := m.Reader.Read(b)
	if n > 0 {
		m.stalled.Reset(stallLimit)
	}
	return n, err
}
