package ctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ratchetos/ratchet/core/api"
	"github.com/ratchetos/ratchet/core/api/apipb"
	"github.com/ratchetos/ratchet/core/api/client"
	"github.com/ratchetos/ratchet/core/api/pki"
	"github.com/ratchetos/ratchet/core/config"
)

func (a *App) loginCommand() *cobra.Command {
	var opts client.LoginOptions
	var name string
	cmd := &cobra.Command{
		Use: "login ADDRESS", Short: "Get a certificate from a box with a one-time token",
		Long: "Get a certificate from a box with a one-time token. The box prints the whole command: a\n" +
			"development image at its start, any image for \"ratchetctl token\" on its console.\n\n" +
			"The private key is made here and stays here.",
		Example: "  ratchetctl login 192.0.2.10:8443 --token 2c4k… --ca-sha256 9f86…\n  ratchetctl login localhost --token 2c4k… --ca-sha256 9f86… --name lab",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if name != filepath.Base(name) || strings.HasPrefix(name, ".") {
				return usage(fmt.Errorf("--name %q is not a plain name", name))
			}
			if opts.Token == "" || opts.CASHA256 == "" {
				return usage(errors.New("--token and --ca-sha256 are needed; copy the whole command that the box prints"))
			}
			opts.Address, opts.Name = args[0], whoami()
			creds, role, err := client.Login(cmd.Context(), opts)
			if err != nil {
				return err
			}
			if err := a.save(name, args[0], creds); err != nil {
				return err
			}
			a.say("logged in to %s as %s with the role %s; the login is called %s", args[0], opts.Name, role, name)
			return nil
		},
	}
	cmd.Flags().StringVar(&opts.Token, "token", "", "one-time token that the box printed")
	cmd.Flags().StringVar(&opts.CASHA256, "ca-sha256", "", "SHA-256 of the box's CA certificate, printed beside the token")
	cmd.Flags().StringVar(&name, "name", "default", "what to call this login, for --context")
	return cmd
}

// whoami is the name in the certificate, and in the box's audit log.
func whoami() string {
	name := "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if host, err := os.Hostname(); err == nil {
		name += "@" + host
	}
	return name[:min(len(name), 64)]
}

// loginToken is what "ratchetctl token" prints for scripts.
type loginToken struct {
	Address  string `json:"address"` // of the box as it knows it, ADDRESS if it does not
	Role     string `json:"role"`
	Token    string `json:"token"`
	CASHA256 string `json:"ca_sha256"`
}

// listen is where the API listens by the configuration of the box, "" if that cannot be read.
func (a *App) listen(ctx context.Context, c *client.Client) string {
	shown, err := c.Config.Show(ctx, &apipb.ShowConfigRequest{})
	if err != nil || len(shown.GetYaml()) == 0 {
		return ""
	}
	parsed, _, _ := config.Parse(shown.GetName(), shown.GetYaml())
	if parsed == nil {
		return ""
	}
	return parsed.API.Listen
}

func (a *App) tokenCommand() *cobra.Command {
	var role string
	var ttl time.Duration
	cmd := &cobra.Command{
		Use: "token", Short: "Make a one-time token for another workstation",
		Long:    "Make a one-time token with which another workstation can log in, and print the command to\ntype there. The token is good once and for a limited time.",
		Example: "  ratchetctl token --role viewer --ttl 10m",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := pki.ParseRole(role); err != nil {
				return usage(err)
			}
			c, err := a.Client()
			if err != nil {
				return err
			}
			host, port := "", client.DefaultPort
			if listen := a.listen(cmd.Context(), c); listen == "none" {
				return errors.New("the box does not listen on the network (api.listen is none), so nobody could log in; change that first")
			} else if h, p, err := net.SplitHostPort(strings.TrimPrefix(listen, "tcp:")); err == nil {
				if a, err := netip.ParseAddr(h); err == nil && !a.IsUnspecified() {
					host = h
				}
				port = p
			}
			reply, err := c.Access.CreateToken(cmd.Context(), &apipb.CreateTokenRequest{Role: role, TtlMs: ttl.Milliseconds()})
			if err != nil {
				return err
			}
			// Where the box can be reached from is known to the operator alone; its own address is a guess.
			if s, err := c.System.Status(cmd.Context(), &apipb.StatusRequest{}); host == "" && err == nil && len(s.GetNetwork().GetAddresses()) > 0 {
				host, _, _ = strings.Cut(s.GetNetwork().GetAddresses()[0], "/")
			}
			address := "ADDRESS"
			if host != "" {
				address = net.JoinHostPort(host, port)
			} else if port != client.DefaultPort {
				address += ":" + port
			}
			login := loginToken{address, role, reply.GetToken(), reply.GetCaSha256()}
			return a.show(login, func(w io.Writer) { fmt.Fprintln(w, api.LoginCommand(address, login.Token, login.CASHA256)) })
		},
	}
	cmd.Flags().StringVar(&role, "role", "operator", "what the new login may do: "+strings.Join(pki.Roles(), ", "))
	cmd.Flags().DurationVar(&ttl, "ttl", time.Hour, "how long the token is good, at most 24h")
	must(cmd.RegisterFlagCompletionFunc("role", cobra.FixedCompletions(pki.Roles(), cobra.ShellCompDirectiveNoFileComp)))
	return cmd
}
