package qmp_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/vmhost/client"
)

// mortal is an agent with a complete destination that ends before cont gets to its QEMU, or once that has taken it.
func mortal(before bool) http.HandlerFunc {
	ended := false
	return func(w http.ResponseWriter, r *http.Request) {
		reply := func(status int, v any) {
			w.WriteHeader(status)
			_ = json.NewEncoder(w).Encode(v)
		}
		switch {
		case strings.HasSuffix(r.URL.Path, "/events"):
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
			return
		case !strings.HasSuffix(r.URL.Path, "/qmp"):
			reply(http.StatusOK, struct{}{})
			return
		}
		var q client.Command
		_ = json.NewDecoder(r.Body).Decode(&q)
		cont := q.Execute == "cont"
		ended = ended || cont && before
		switch {
		case ended:
			reply(http.StatusNotFound, client.Problem{Kind: client.NoSuchVM, Message: hypervisor.ErrNoSuchVM.Error()})
		case cont:
			ended = true
			reply(http.StatusOK, client.Reply{Return: []byte("{}")})
		default:
			reply(http.StatusOK, client.Reply{Return: []byte(`{"status":"paused"}`)})
		}
	}
}

// TestEndedOnceItRan: only of a destination that was not told to run does the port say hypervisor.ErrNoSuchVM, by which the
// manager lets the source run again (invariant M1).
func TestEndedOnceItRan(t *testing.T) {
	for name, before := range map[string]bool{"before cont": true, "after cont": false} {
		t.Run(name, func(t *testing.T) {
			a := newAgents(t, 1)
			for _, host := range []string{"a", "b"} {
				a.listen(t, host, mortal(before))
			}
			_, target := a.open(t)
			err := target.Finish(t.Context(), hypervisor.Move{ID: "m1", Epoch: 1, VM: "vm1"}, true)
			if err == nil || errors.Is(err, hypervisor.ErrNoSuchVM) != before {
				t.Errorf("it ended %s: %v", name, err)
			}
		})
	}
}
