package qmp_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/hypervisortest"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/qmp"
	"github.com/ratchetos/ratchet/plugins/migration/model"
	"github.com/ratchetos/ratchet/plugins/migration/vmhost/client"
)

// agents are two hosts as a manager reaches them through a tape: real ones that are recorded, or none.
type agents struct {
	dir   string
	epoch uint64
	ports map[string]*qmp.Port
}

// listen serves a host at a socket.
func (a *agents) listen(t *testing.T, host string, h http.Handler) {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(a.dir, host))
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h, ReadHeaderTimeout: callLimit}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	t.Cleanup(func() { s.Close(); <-done })
}

// open connects to both, as the next manager does if there was one before.
func (a *agents) open(t *testing.T) (x, y hypervisor.Port) {
	t.Helper()
	a.close()
	ctx, cancel := context.WithTimeout(t.Context(), callLimit)
	defer cancel()
	for _, host := range []string{"a", "b"} {
		p, err := qmp.DialClient(ctx, qmp.VMHost{
			Name: host, Address: host, Epoch: a.epoch,
			Peers: func(_ context.Context, host string) (hypervisor.Port, error) { return a.ports[host], nil },
		}, client.Local(filepath.Join(a.dir, host)))
		if err != nil {
			t.Fatal(err)
		}
		a.ports[host] = p
	}
	return a.ports["a"], a.ports["b"]
}

func (a *agents) close() {
	for _, p := range a.ports {
		p.Close()
	}
}

func newAgents(t *testing.T, epoch uint64) *agents {
	t.Helper()
	dir, err := os.MkdirTemp("", "tp") //nolint:usetesting // t.TempDir is too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	a := &agents{dir: dir, epoch: epoch, ports: map[string]*qmp.Port{}}
	t.Cleanup(func() { a.close(); os.RemoveAll(dir) })
	return a
}

// rig is what the suite wants, over a tape.
func (a *agents) rig(t *testing.T, p *tape, shape model.Shape, kill func()) hypervisortest.Rig {
	t.Helper()
	r := hypervisortest.Rig{SourceName: "a", TargetName: "b", Shape: shape, PostCopy: true, Fences: true, Epoch: a.epoch}
	r.Source, r.Target = a.open(t)
	r.KillTarget = func() { p.did("kill"); kill() }
	r.Reopen = func(t *testing.T) (hypervisor.Port, hypervisor.Port) {
		a.close()
		p.did("reopen")
		a.epoch++
		return a.open(t)
	}
	return r
}

func tapeOf(t *testing.T) string {
	return filepath.Join("testdata", "suite", filepath.Base(t.Name())+".jsonl")
}

// opening is the first note of a tape.
type opening struct {
	Epoch uint64
	Shape model.Shape
}

// TestSuiteRecorded runs the conformance suite over agents that are not there: what they said to it when there were some, with real QEMUs,
// was recorded.
func TestSuiteRecorded(t *testing.T) {
	hypervisortest.Suite(t, func(t *testing.T) hypervisortest.Rig {
		p, err := readTape(tapeOf(t))
		if err != nil {
			t.Fatal(err)
		}
		var s opening
		if err := json.Unmarshal(p.notes[0].Reply, &s); err != nil {
			t.Fatal(err)
		}
		p.used[0] = true
		t.Cleanup(func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			for _, text := range p.wrong {
				t.Error(text)
			}
		})
		a := newAgents(t, s.Epoch)
		for _, host := range []string{"a", "b"} {
			a.listen(t, host, p.serve(host))
		}
		return a.rig(t, p, s.Shape, func() {})
	})
}

// TestRecordSuite makes the tapes of TestSuiteRecorded, when it is asked to.
func TestRecordSuite(t *testing.T) {
	if !*record {
		return
	}
	h := hosts(t)
	hypervisortest.Suite(t, func(t *testing.T) hypervisortest.Rig {
		shape := fresh(t, h)
		p := &tape{}
		a := newAgents(t, 100*h.Epoch()) // a case has several managers
		begin, _ := json.Marshal(opening{a.epoch, shape})
		p.notes = append(p.notes, note{Did: "start", Reply: begin})
		for _, host := range []string{"a", "b"} {
			config, err := h.Authority.ClientTLS(host)
			if err != nil {
				t.Fatal(err)
			}
			to := h.Address(host)
			a.listen(t, host, p.record(host, &http.Client{Transport: &http.Transport{TLSClientConfig: config}}, "https://"+to))
		}
		path := tapeOf(t)
		t.Cleanup(func() {
			if err := p.write(path); err != nil {
				t.Error(err)
			}
		})
		return a.rig(t, p, shape, func() {
			if err := h.Host("b").Kill("vm1"); err != nil {
				t.Error(err)
			}
		})
	})
}

// record hands requests to a real agent and keeps what it says.
func (t *tape) record(host string, c *http.Client, base string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		n, err := asked(host, r)
		if err != nil {
			panic(err)
		}
		q, err := http.NewRequestWithContext(r.Context(), r.Method, base+r.URL.Path, bytes.NewReader(n.Body))
		if err != nil {
			panic(err)
		}
		q.Header.Set(client.EpochHeader, n.Epoch)
		resp, err := c.Do(q)
		if err != nil {
			return // the caller has given up
		}
		defer resp.Body.Close()
		w.WriteHeader(resp.StatusCode)
		if r.URL.Path == "/v1/events" {
			control := http.NewResponseController(w)
			_ = control.Flush()
			for lines := bufio.NewScanner(resp.Body); lines.Scan(); _ = control.Flush() {
				if line := bytes.Clone(lines.Bytes()); len(line) > 0 {
					t.add(note{Host: host, Event: line})
				}
				_, _ = w.Write(append(lines.Bytes(), '\n'))
			}
			return
		}
		if n.Reply, err = io.ReadAll(resp.Body); err != nil {
			return
		}
		n.Status = resp.StatusCode
		if resp.StatusCode == http.StatusOK {
			n.Reply = short(r.URL.Path, n.Reply)
		}
		t.add(n)
		_, _ = w.Write(n.Reply)
	}
}

// short leaves out most of what fills a book.
func short(path string, reply []byte) []byte {
	var h client.Host
	if path != "/v1/host" || json.Unmarshal(reply, &h) != nil {
		return reply
	}
	const some = 3
	h.CPUs, h.Devices = h.CPUs[:min(some, len(h.CPUs))], h.Devices[:min(some, len(h.Devices))]
	b, _ := json.Marshal(h)
	return b
}
