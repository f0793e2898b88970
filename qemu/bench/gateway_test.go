package bench

import (
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	const text = "4242 (nbd) kit (x) S 17 4242 4242 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 17 0 100 0 0"
	got, err := parseStat(text)
	if want := (procStat{parent: 17, cpu: 3 * time.Second}); err != nil || got != want {
		t.Errorf("parseStat: %v, %v, want %v", got, err, want)
	}
	for _, bad := range []string{"", "1 (init) S 0", "1 (x) S p 1 1 0 -1 0 0 0 0 0 a b 0 0"} {
		if _, err := parseStat(bad); err == nil {
			t.Errorf("parseStat(%q): no error", bad)
		}
	}
}

// TestCPUOfOurselves burns a known amount of CPU time and finds it.
func TestCPUOfOurselves(t *testing.T) {
	before, err := markCPU(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for {
		after, err := markCPU(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		if used, _ := after.since(before); used >= 50*time.Millisecond {
			return
		}
	}
}

func TestParseFio(t *testing.T) {
	const report = `fio: connected to NBD server
{"jobs": [{"error": 0,
 "read": {"total_ios": 0, "iops": 0, "bw_bytes": 0, "runtime": 0, "clat_ns": {}},
 "write": {"total_ios": 2000, "iops": 1000.5, "bw_bytes": 4096000, "runtime": 1999, "clat_ns": {"percentile": {"50.000000": 9664, "99.000000": 329728}}},
 "sync": {"total_ios": 1999, "lat_ns": {"percentile": {"50.000000": 354304, "99.000000": 4227072}}}}]}`
	got, err := parseFio([]byte(report))
	want := fioResult{ops: 2000, wall: 1999 * time.Millisecond, iops: 1000.5, mbps: 4.096, p99: 329728, syncP99: 4227072}
	if err != nil || got != want {
		t.Errorf("parseFio: %+v, %v, want %+v", got, err, want)
	}
	for _, bad := range []string{
		"", "fio: engine nbd not loadable", "{", `{"jobs": []}`,
		`{"jobs": [{"error": 5, "write": {"total_ios": 7}}]}`, `{"jobs": [{"error": 0}]}`,
	} {
		if _, err := parseFio([]byte(bad)); err == nil {
			t.Errorf("parseFio(%q): no error", bad)
		}
	}
}

func TestFioArgs(t *testing.T) {
	j := fioJob{rw: "randwrite", block: "4k", depth: 1, jobs: 16, ops: 1600, size: gib, fsync: true}
	for _, want := range []string{"--number_ios=100", "--fsync=1", "--numjobs=16", "--size=1073741824"} {
		if !slices.Contains(j.args(), want) {
			t.Errorf("arguments lack %s: %q", want, j.args())
		}
	}
	if !j.writes() || (fioJob{rw: "randread"}).writes() {
		t.Error("writes() does not tell a job that writes from one that reads")
	}
}

// TestRatio pairs runs that were made side by side: one slow round on both sides does not move it.
func TestRatio(t *testing.T) {
	run := func(rates ...float64) (list []load) {
		for _, r := range rates {
			list = append(list, load{fioResult: fioResult{iops: r}})
		}
		return list
	}
	if got := ratio(run(200, 20, 220), run(100, 10, 100), iops); got != 2 {
		t.Errorf("ratio %v, want 2", got)
	}
	if got := ratio(run(1), run(0), iops); got != 0 {
		t.Errorf("ratio to nothing %v, want 0", got)
	}
}

func TestParsePSS(t *testing.T) {
	got, err := parsePSS([]byte("00400000-7fff r--p\nRss:  9000 kB\nPss:  1234 kB\nPss_Anon: 7 kB\n"))
	if err != nil || got != 1234*1024 {
		t.Errorf("parsePSS: %d, %v", got, err)
	}
	if _, err := parsePSS([]byte("Rss: 1 kB\n")); err == nil {
		t.Error("no error without Pss")
	}
}

func TestDescendants(t *testing.T) {
	cmd := exec.Command("sh", "-c", "sleep 60 & read x; kill $!")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer in.Close()
	for deadline := time.Now().Add(10 * time.Second); ; {
		list, err := descendants(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		// The shell and its child.
		if i := slices.Index(list, cmd.Process.Pid); i >= 0 && len(list) > i+1 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("descendants %v lack those of %d", list, cmd.Process.Pid)
		}
	}
}
