package guest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/ratchetos/ratchet/plugins/migration/agent/wire"
)

// machine is a kernel made up: a tree of files, of which some change when others are written.
type machine struct {
	t    *testing.T
	root string

	mu     sync.Mutex
	wrote  []string
	loaded []string
	refuse string // a path that cannot be written
}

func (m *machine) put(path, value string) {
	file := filepath.Join(m.root, path)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if target, ok := strings.CutPrefix(value, "-> "); ok {
		if err := os.Symlink(target, file); err != nil {
			m.t.Fatal(err)
		}
		return
	}
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(value, `\n`, "\n")+"\n"), 0o644); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) get(path string) string { return newTree(m.root).text(path) }

// write is what the kernel does with what the agent writes.
func (m *machine) write(file, value string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	path := strings.TrimPrefix(file, m.root+"/")
	if path == m.refuse {
		return fmt.Errorf("write %s: device or resource busy", path)
	}
	if _, err := os.Stat(file); err != nil {
		return err
	}
	m.wrote = append(m.wrote, path+" = "+value)
	switch {
	case strings.HasPrefix(path, cpuDir):
		m.put(path, value)
		list := []string{"0"}
		for n := 1; n < 8; n++ {
			if m.get(fmt.Sprintf("%s/cpu%d/online", cpuDir, n)) == "1" {
				list = append(list, strconv.Itoa(n))
			}
		}
		m.put(cpuDir+"/online", strings.Join(list, ","))
	case strings.HasPrefix(path, memoryDir):
		delta := int64(128 << 10)
		if value == "offline" {
			delta = -delta
		} else {
			value = "online"
			m.put(filepath.Dir(path)+"/valid_zones", "Movable")
		}
		m.put(path, value)
		var kib int64
		if _, err := fmt.Sscanf(m.get("proc/meminfo"), "MemTotal: %d kB", &kib); err != nil {
			return err
		}
		m.put("proc/meminfo", fmt.Sprintf("MemTotal: %d kB", kib+delta))
	}
	return nil
}

func (m *machine) load(path string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	name := moduleName(path)
	if name == m.refuse {
		return fmt.Errorf("invalid module format")
	}
	m.loaded = append(m.loaded, name)
	m.put("proc/modules", m.get("proc/modules")+"\n"+name+" 1 0 - Live 0x0")
	return nil
}

// ask sends a line and waits for its answer.
func ask(t *testing.T, a *Agent, line string) string {
	t.Helper()
	answers := make(chan []byte, 1)
	a.Handle(t.Context(), []byte(line), func(b []byte) { answers <- b })
	select {
	case b := <-answers:
		return string(b)
	case <-time.After(10 * time.Second):
		t.Fatalf("no answer to %s", line)
		return ""
	}
}

// TestOrders runs testdata/*.txt: trees, and what the agent makes of orders on them.
//
//	tree             PATH = VALUE lines add files; "-> TARGET" is a symbolic link
//	refuse PATH      the file that cannot be written, or module that cannot be loaded
//	VERB [args]      an order; the answer, what was written and which modules were loaded
func TestOrders(t *testing.T) {
	scripts, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(scripts) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, path := range scripts {
		m := &machine{t: t, root: t.TempDir()}
		a := New(Options{Version: "v1", Root: m.root, Load: m.load, Network: &network{}})
		a.sys.write = m.write
		a.sys.claimed = func(path string) bool { return strings.HasSuffix(path, "/dev/vdc") }
		n := 0
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "tree":
				for line := range strings.Lines(d.Input) {
					if path, value, ok := strings.Cut(strings.TrimSpace(line), " = "); ok {
						m.put(path, value)
					}
				}
				return ""
			case "refuse":
				m.refuse = d.Input
				return ""
			}
			n++
			req := fmt.Sprintf(`{"v":1,"id":"%d","verb":%q,"wait_ms":40`, n, d.Cmd)
			if d.Input != "" {
				req += `,"args":` + d.Input
			}
			m.wrote, m.loaded = nil, nil
			out := pretty(t, ask(t, a, req+"}"))
			m.mu.Lock()
			defer m.mu.Unlock()
			for _, w := range m.wrote {
				out += "wrote " + w + "\n"
			}
			if len(m.loaded) > 0 {
				out += "loaded " + strings.Join(m.loaded, " ") + "\n"
			}
			return out
		})
	}
}

// pretty is the answer without what every answer has.
func pretty(t *testing.T, line string) string {
	t.Helper()
	r, err := wire.ParseResponse([]byte(line))
	if err != nil {
		t.Fatalf("%v: %s", err, line)
	}
	if r.Error != nil {
		return fmt.Sprintf("%s: %s\n", r.Error.Code, r.Error.Text)
	}
	if len(r.Result) < 120 {
		return string(r.Result) + "\n"
	}
	var out bytes.Buffer
	if err := json.Indent(&out, r.Result, "", " "); err != nil {
		t.Fatal(err)
	}
	// One line an element is enough to read.
	text := strings.NewReplacer("{\n   ", "{", "\",\n   \"", "\", \"", ",\n   \"", ", \"", "\n  }", "}").Replace(out.String())
	return text + "\n"
}

// TestOnce sends an order twice under one ID: while it is carried out, and after.
func TestOnce(t *testing.T) {
	m := &machine{t: t, root: t.TempDir()}
	m.put(cpuDir+"/possible", "0-1")
	m.put(cpuDir+"/present", "0")
	m.put(cpuDir+"/online", "0")
	a := New(Options{Root: m.root, Network: &network{}})
	a.sys.write = m.write
	const order = `{"id":"x","verb":"online-cpus","wait_ms":5000,"args":{"online":2}}`
	answers := make(chan string, 4)
	answer := func(b []byte) { answers <- string(b) }
	a.Handle(t.Context(), []byte(order), answer)
	a.Handle(t.Context(), []byte(order), answer) // no second answer, no second order
	// The processor appears.
	m.put(cpuDir+"/cpu1/online", "0")
	m.put(cpuDir+"/present", "0-1")
	first := <-answers
	if !strings.Contains(first, `"online":2`) {
		t.Fatal(first)
	}
	a.Handle(t.Context(), []byte(order), answer)
	if again := <-answers; again != first {
		t.Errorf("answered %s, then %s", first, again)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.wrote) != 1 || len(answers) != 0 {
		t.Errorf("wrote %v, %d answers too many", m.wrote, len(answers))
	}
}

// TestBounded fills the agent with orders that cannot end: the next one is refused, and the answers remembered are bounded.
func TestBounded(t *testing.T) {
	m := &machine{t: t, root: t.TempDir()}
	m.put(cpuDir+"/possible", "0-1")
	m.put(cpuDir+"/online", "0")
	a := New(Options{Root: m.root, Network: &network{}})
	answers := make(chan string, maxRunning)
	for i := range maxRunning {
		a.Handle(t.Context(), fmt.Appendf(nil, `{"id":"%d","verb":"online-cpus","wait_ms":300,"args":{"online":2}}`, i), func(b []byte) { answers <- string(b) })
	}
	if got := ask(t, a, `{"id":"more","verb":"ping"}`); !strings.Contains(got, `"busy"`) {
		t.Error(got)
	}
	for range maxRunning {
		if got := <-answers; !strings.Contains(got, "not-reached") && !strings.Contains(got, "busy") {
			t.Error(got)
		}
	}
	for i := range 2 * wire.Remembered {
		ask(t, a, fmt.Sprintf(`{"id":"a%d","verb":"online-cpus","args":{"online":1}}`, i))
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.done) != wire.Remembered || len(a.order) != wire.Remembered || len(a.running) != 0 {
		t.Errorf("%d answers, %d in order, %d running", len(a.done), len(a.order), len(a.running))
	}
}

// FuzzHandle has the engine take any line on an empty tree: it must answer what has an ID, and touch nothing.
func FuzzHandle(f *testing.F) {
	f.Add([]byte(`{"id":"a","verb":"report"}`))
	f.Add([]byte(`{"id":"a","verb":"online-memory","wait_ms":1,"args":{"bytes":18446744073709551615}}`))
	f.Add([]byte(`{"id":"a","verb":"swap-nic","wait_ms":1,"args":{"from":"../..","to":"x"}}`))
	f.Add([]byte(`{"id":"a","verb":"hook","args":{"name":"../../bin/sh"}}`))
	f.Add([]byte(`{"id":"a","verb":"augment","args":{"names":["driver:e1000","virtio-mem"]}}`))
	root := f.TempDir()
	f.Fuzz(func(t *testing.T, line []byte) {
		req, err := wire.ParseRequest(line)
		if err == nil && (req.Wait == 0 || req.Wait > 20) {
			return // only slow
		}
		a := New(Options{Root: root, Network: &network{}, Load: func(path string) error { t.Errorf("loaded %s", path); return nil }})
		a.sys.write = func(path, _ string) error { t.Errorf("wrote %s", path); return nil }
		answers := make(chan []byte, 1)
		a.Handle(t.Context(), line, func(b []byte) { answers <- b })
		if req.ID == "" {
			return
		}
		if _, err := wire.ParseResponse(<-answers); err != nil {
			t.Error(err)
		}
	})
}
