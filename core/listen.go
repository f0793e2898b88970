package core

import (
	"net"
	"path/filepath"

	"github.com/ratchetos/ratchet/core/api"
	"github.com/ratchetos/ratchet/core/api/pki"
)

// openAPI loads the box's own certificate authority, or makes it, and prepares the server.
func (a *appliance) openAPI() (err error) {
	dir := filepath.Join(a.stateDir, "api")
	if a.stateDir == "" {
		dir = filepath.Join(a.runDir, "pki") // gone with the next boot, as everything is without STATE
	}
	if a.ca, err = pki.Open(dir, pki.Options{}); err != nil {
		return err
	}
	a.api = api.New(api.Options{Backend: backend{a}, Authority: a.ca, Tokens: a.tokens, Log: a.auditLog()})
	return nil
}

// listen opens the API. On the network it is there on released hardware and on workstations.
func (a *appliance) listen() {
	listeners, err := inheritedListeners()
	if err != nil {
		a.complain("sockets from systemd", err)
	}
	if len(listeners) == 0 {
		listeners = a.ownListeners()
	}
	for _, l := range listeners {
		a.listening = append(a.listening, l.Addr().Network()+":"+l.Addr().String())
		go func() {
			if err := a.api.Serve(l); err != nil {
				a.complain("API", err)
			}
		}()
	}
}

func (a *appliance) ownListeners() []net.Listener {
	addresses := []string{"unix:" + filepath.Join(a.runDir, "api.sock")}
	if listen := a.config.API.Listen; listen != "none" && (a.report == nil || a.released()) {
		addresses = append(addresses, listen)
	}
	var out []net.Listener
	for _, address := range addresses {
		l, err := api.Listen(address, -1)
		if err != nil {
			a.complain("API", err)
			continue
		}
		out = append(out, l)
	}
	return out
}
