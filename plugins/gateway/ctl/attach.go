package ctl

import (
	"fmt"
	"net"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ratchetos/ratchet/plugins/gateway/api"
	"github.com/ratchetos/ratchet/plugins/internal/command"
)

// way is one client's way to a volume.
type way struct {
	Client   string   `json:"client"`
	Commands []string `json:"commands"`
}

func attachInfo(app App) *cobra.Command {
	var host string
	c := &cobra.Command{
		Use: "attach-info NAME", Short: "Print the commands with which clients attach a volume", Args: cobra.ExactArgs(1), ValidArgsFunction: command.Names(volumeNames).First(app),
		Long: "Print commands, ready to paste, with which Linux, QEMU and others attach a volume, for every way in that\n" +
			"the box offers.",
		Example: "  ratchetctl volume attach-info demo\n  ratchetctl volume attach-info demo --host storage.example.net -o json",
		RunE: func(cmd *cobra.Command, args []string) error {
			if host == "" {
				var err error
				if host, err = app.Host(); err != nil {
					return err
				}
			}
			var a api.Attach
			if err := app.Invoke(cmd.Context(), plugin, api.MethodAttach, api.VolumeRequest{Name: args[0]}, &a); err != nil {
				return err
			}
			ways := waysTo(a, host)
			var lines [][]string
			for _, w := range ways {
				lines = append(lines, []string{"# " + w.Client})
				for _, command := range w.Commands {
					lines = append(lines, []string{command})
				}
			}
			return app.Print(ways, []string{fmt.Sprintf("# volume %s, %s", a.Export, size(a.Size))}, lines)
		},
	}
	c.Flags().StringVar(&host, "host", "", "name or address of the box for clients (default: as ratchetctl reaches it)")
	return c
}

// waysTo lists what works, listener by listener.
func waysTo(a api.Attach, host string) []way {
	var ways []way
	if a.Token {
		a.Export += "@TOKEN" // ratchetctl volume token make shows the secret, once
	}
	for _, l := range a.Listeners {
		switch {
		case l.Network == "unix":
			ways = append(ways, localWays(a.Export, l)...)
		case l.TLS:
			ways = append(ways, tlsWays(a.Export, l, hostFor(l.Address, host))...)
		default:
			ways = append(ways, plainWays(a.Export, hostFor(l.Address, host))...)
		}
	}
	for _, t := range a.Targets {
		for _, portal := range t.Portals {
			ways = append(ways, targetWays(t, hostFor(portal, host))...)
		}
	}
	return ways
}

// hostFor puts the host in where the listener has all addresses, and a name to fill in where nobody knows one.
func hostFor(listen, host string) string {
	own, port, err := net.SplitHostPort(listen)
	if err != nil {
		return listen
	}
	if ip := net.ParseIP(own); own != "" && (ip == nil || !ip.IsUnspecified()) {
		host = own
	}
	if host == "" {
		host = "BOX"
	}
	return net.JoinHostPort(host, port)
}

// maxNode is how long a name of QEMU's may be.
const maxNode = 31

// node is what QEMU calls it, where no token fits: a name that begins with a letter. Of a long one the end tells more.
func node(export string) string {
	volume, _, _ := strings.Cut(export, "@")
	if len(volume) > maxNode || volume[0] <= '9' {
		const begins = "v-"
		return begins + volume[max(0, len(volume)+len(begins)-maxNode):]
	}
	return volume
}

func plainWays(export, address string) []way {
	host, port, _ := net.SplitHostPort(address)
	return []way{
		{"Linux (apt-get install nbd-client), as /dev/nbd0", []string{
			"sudo modprobe nbd",
			fmt.Sprintf("sudo nbd-client %s %s /dev/nbd0 -N %s -connections 4 -persist", host, port, export),
		}},
		{"Linux, to let go", []string{"sudo nbd-client -d /dev/nbd0"}},
		{"QEMU", []string{
			fmt.Sprintf("-blockdev driver=nbd,node-name=%[4]s,server.type=inet,server.host=%[2]s,server.port=%[3]s,export=%[1]s,reconnect-delay=30,discard=unmap -device virtio-blk-pci,drive=%[4]s", export, host, port, node(export)),
		}},
		{"copy in and out", copies("nbd://" + address + "/" + export)},
	}
}

func copies(uri string) []string {
	return []string{
		"nbdcopy --flush disk.img '" + uri + "'",
		"nbdcopy '" + uri + "' disk.img",
	}
}

// tlsWays name files for the client: ca.pem, and client.pem with client.key where the server wants a certificate.
func tlsWays(export string, l api.Listener, address string) []way {
	host, port, _ := net.SplitHostPort(address)
	files, creds := "-cacertfile ca.pem", "endpoint=client,verify-peer=yes,dir=tls"
	if l.ClientCertificate {
		files += " -certfile client.pem -keyfile client.key"
	}
	return []way{
		{"Linux with TLS (apt-get install nbd-client), as /dev/nbd0", []string{
			"sudo modprobe nbd",
			fmt.Sprintf("sudo nbd-client %s %s /dev/nbd0 -N %s -connections 4 -persist %s", host, port, export, files),
		}},
		{"QEMU with TLS; the directory tls holds " + strings.Join(qemuFiles(l), ", "), []string{
			fmt.Sprintf("-object tls-creds-x509,id=tls0,%[5]s -blockdev driver=nbd,node-name=%[4]s,server.type=inet,server.host=%[2]s,server.port=%[3]s,export=%[1]s,tls-creds=tls0,reconnect-delay=30,discard=unmap -device virtio-blk-pci,drive=%[4]s",
				export, host, port, node(export), creds),
		}},
		{"copy in and out; the directory tls as above", copies("nbds://" + address + "/" + export + "?tls-certificates=tls")},
	}
}

func qemuFiles(l api.Listener) []string {
	files := []string{"ca-cert.pem"}
	if l.ClientCertificate {
		files = append(files, "client-cert.pem", "client-key.pem")
	}
	return files
}

func localWays(export string, l api.Listener) []way {
	return []way{
		{"Linux on the box itself, as /dev/nbd0", []string{
			"sudo modprobe nbd",
			fmt.Sprintf("sudo nbd-client -unix %s /dev/nbd0 -N %s -connections 4 -persist", l.Address, export),
		}},
		{"QEMU on the box itself", []string{
			fmt.Sprintf("-blockdev driver=nbd,node-name=%[3]s,server.type=unix,server.path=%[2]s,export=%[1]s,reconnect-delay=30,discard=unmap -device virtio-blk-pci,drive=%[3]s", export, l.Address, node(export)),
		}},
		{"copy in and out, on the box itself", copies("nbd+unix:///" + export + "?socket=" + l.Address)},
	}
}
