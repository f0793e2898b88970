package migration

import (
	"bufio"
	"encoding/json"
	"net"

	"github.com/ratchetos/ratchet/plugins/migration/agent/wire"
	"github.com/ratchetos/ratchet/plugins/migration/model"
)

// dialGuest connects to an agent that reports what a plain guest can and always gives the same boot ID.
func dialGuest(_, vm string) (net.Conn, error) {
	here, there := net.Pipe()
	go func() {
		defer there.Close()
		for in := bufio.NewScanner(there); in.Scan(); {
			req, err := wire.ParseRequest(in.Bytes())
			if err != nil {
				continue // the empty line in front
			}
			var result any
			switch req.Verb {
			case wire.Report:
				result = model.Guest{
					Agent: "test", BootID: "boot-" + vm, CPUs: 1, Present: 1, Memory: 200 << 20,
					Can: []model.Capability{{Name: model.CanCPUHotplug, State: model.Ready}, {Name: model.CanMoveNIC, State: model.Ready}},
				}
			case wire.Ping:
				result = wire.Pong{BootID: "boot-" + vm}
			}
			text, _ := json.Marshal(result)
			line, err := wire.Line(wire.Response{Version: wire.Version, ID: req.ID, Result: text})
			if err != nil {
				return
			}
			if _, err := there.Write(line); err != nil {
				return
			}
		}
	}()
	return here, nil
}
