package fetch

import (
	"bytes"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/server4"

	"github.com/ratchetos/ratchet/hw/nic/netlab"
)

// TestGet fetches over a real link from a real server, and leaves the link as it was.
func TestGet(t *testing.T) {
	if !netlab.Alone(t) {
		return
	}
	l := netlab.New(t)
	file := bytes.Repeat([]byte("bundle"), 1<<18)
	serve(t, l, file)
	for _, c := range []struct {
		name, from string
		limit      int64
		wrong      string
	}{
		{"address given", "http://10.7.0.1:8080/file 10.7.0.5/24", int64(len(file)), ""},
		{"address given, with a gateway", "http://10.9.0.1:8080/file 10.7.0.5/24 10.7.0.1", int64(len(file)), ""},
		{"leased", "http://10.7.0.1:8080/file", int64(len(file)), ""},
		{"too long", "http://10.7.0.1:8080/file 10.7.0.5/24", int64(len(file)) - 1, "at most"},
		{"too long, and the server does not say so", "http://10.7.0.1:8080/unsaid 10.7.0.5/24", int64(len(file)) - 1, "more than"},
		{"cut off", "http://10.7.0.1:8080/cut 10.7.0.5/24", int64(len(file)), "unexpected EOF"},
		{"not there", "http://10.7.0.1:8080/other 10.7.0.5/24", int64(len(file)), "404"},
		{"sent on", "http://10.7.0.1:8080/elsewhere 10.7.0.5/24", int64(len(file)), "sends on to"},
		{"nobody listens", "http://10.7.0.1:8081/file 10.7.0.5/24", int64(len(file)), "refused"},
	} {
		t.Run(c.name, func(t *testing.T) {
			from, err := Parse(strings.Fields(c.from))
			if err != nil {
				t.Fatal(err)
			}
			var got bytes.Buffer
			err = Get(t.Context(), "c0", from, c.limit, &got)
			switch {
			case c.wrong == "" && (err != nil || !bytes.Equal(got.Bytes(), file)):
				t.Errorf("%d bytes, %v", got.Len(), err)
			case c.wrong != "" && (err == nil || !strings.Contains(err.Error(), c.wrong)):
				t.Errorf("%v, want %q", err, c.wrong)
			}
			if left := netlab.Run(t, "ip -4 address show dev c0"); strings.Contains(left, "inet ") {
				t.Errorf("an address is left: %s", left)
			}
			if link := netlab.Run(t, "ip link show dev c0"); !strings.Contains(link, "state DOWN") {
				t.Errorf("the link is not down: %s", link)
			}
		})
	}
}

// TestGetIPv6: an address of IPv6 is of no use until the kernel has asked whether another host has it.
func TestGetIPv6(t *testing.T) {
	if !netlab.Alone(t) {
		return
	}
	l := netlab.New(t)
	file := bytes.Repeat([]byte("bundle"), 1<<18)
	serve(t, l, file)
	l.There("ip addr add fd00::1/64 dev s0 nodad")
	// It takes a second or two about that, a tenth with these.
	for _, s := range []string{"ipv6/neigh/c0/retrans_time_ms=100", "ipv6/conf/c0/router_solicitation_delay=0"} {
		name, value, _ := strings.Cut(s, "=")
		if err := os.WriteFile("/proc/sys/net/"+name, []byte(value), 0); err != nil {
			t.Fatal(err)
		}
	}
	from, err := Parse(strings.Fields("http://[fd00::1]:8080/file fd00::5/64"))
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if err := Get(t.Context(), "c0", from, int64(len(file)), &got); err != nil || got.Len() != len(file) {
		t.Errorf("%d bytes, %v", got.Len(), err)
	}
}

func serve(t *testing.T, l *netlab.Lab, file []byte) {
	mux := http.NewServeMux()
	mux.HandleFunc("/file", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1572864")
		_, _ = w.Write(file)
	})
	mux.HandleFunc("/unsaid", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(file[:1])
		_ = http.NewResponseController(w).Flush() // in pieces from now on
		_, _ = w.Write(file[1:])
	})
	mux.HandleFunc("/cut", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1572864")
		_, _ = w.Write(file[:1000])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	mux.Handle("/elsewhere", http.RedirectHandler("http://203.0.113.1/", http.StatusFound))
	l.There("ip addr add 10.9.0.1/32 dev lo")
	l.On(func() {
		listener, err := net.Listen("tcp", ":8080")
		if err != nil {
			t.Error(err)
			return
		}
		server := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
		go server.Serve(listener)
		dhcp, err := server4.NewServer("s0", &net.UDPAddr{Port: 67}, lend)
		if err != nil {
			t.Error(err)
			return
		}
		go dhcp.Serve()
		t.Cleanup(func() { server.Close(); dhcp.Close() })
	})
}

// lend is a DHCP server with one address.
func lend(conn net.PacketConn, peer net.Addr, m *dhcpv4.DHCPv4) {
	kind := dhcpv4.MessageTypeOffer
	if m.MessageType() == dhcpv4.MessageTypeRequest {
		kind = dhcpv4.MessageTypeAck
	}
	reply, err := dhcpv4.NewReplyFromRequest(m,
		dhcpv4.WithMessageType(kind), dhcpv4.WithServerIP(net.IPv4(10, 7, 0, 1)),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(10, 7, 0, 1))),
		dhcpv4.WithYourIP(net.IPv4(10, 7, 0, 9)), dhcpv4.WithNetmask(net.CIDRMask(24, 32)),
		dhcpv4.WithRouter(net.IPv4(10, 7, 0, 1)), dhcpv4.WithLeaseTime(600))
	if err == nil {
		_, _ = conn.WriteTo(reply.ToBytes(), peer)
	}
}
