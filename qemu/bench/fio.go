package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// fioJob is one load, the same for every server it is put on.
type fioJob struct {
	rw    string // randwrite, read, …
	block string
	depth int
	jobs  int // connections, 1 if zero
	// ops ends the job after so many, together; runtime after the time. One of them is set.
	ops     int
	runtime time.Duration
	size    int64 // of the range that is used
	fsync   bool  // a FLUSH after every write
	extra   []string
}

// fioResult is what one run brought.
type fioResult struct {
	ops  float64
	wall time.Duration
	iops float64
	mbps float64
	// p99 and syncP99 are of the operations and of the FLUSHes.
	p99, syncP99 time.Duration
}

// args are the command line without the engine.
func (j fioJob) args() []string {
	a := []string{
		"--name=job", "--rw=" + j.rw, "--bs=" + j.block, "--iodepth=" + strconv.Itoa(j.depth), "--size=" + strconv.FormatInt(j.size, 10),
		"--randrepeat=0", "--norandommap", "--group_reporting", "--thread", "--numjobs=" + strconv.Itoa(max(j.jobs, 1)),
		// The default percentiles of FLUSH lack nothing, but a short list keeps the report small.
		"--percentile_list=50:99", "--output-format=json",
	}
	if j.runtime > 0 {
		a = append(a, "--time_based", fmt.Sprintf("--runtime=%dms", j.runtime.Milliseconds()))
	} else {
		// io_size beyond size lets number_ios alone say when to end.
		a = append(a, "--number_ios="+strconv.Itoa(j.ops/max(j.jobs, 1)), "--io_size=1T")
	}
	if j.fsync {
		a = append(a, "--fsync=1")
	}
	return append(a, j.extra...)
}

// run puts the job on an NBD export.
func (j fioJob) run(ctx context.Context, uri string) (fioResult, error) {
	return j.fio(ctx, "--ioengine=nbd", "--uri="+uri)
}

// fio runs it with an engine of the caller's choice.
func (j fioJob) fio(ctx context.Context, engine ...string) (fioResult, error) {
	ctx, cancel := context.WithTimeout(ctx, fioLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "fio", append(j.args(), engine...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return fioResult{}, fmt.Errorf("fio %s %s: %w: %s", j.rw, j.block, err, tailText(stderr.Bytes()))
	}
	r, err := parseFio(out)
	if err != nil {
		return r, fmt.Errorf("fio %s %s: %w", j.rw, j.block, err)
	}
	return r, nil
}

const fioLimit = 5 * time.Minute

// parseFio reads fio's JSON. Warnings may stand before it.
func parseFio(out []byte) (fioResult, error) {
	type latency struct {
		Percentile map[string]float64 `json:"percentile"`
	}
	type side struct {
		Ops     float64 `json:"total_ios"`
		IOPS    float64 `json:"iops"`
		Bytes   float64 `json:"bw_bytes"`
		Runtime float64 `json:"runtime"` // ms
		Latency latency `json:"clat_ns"`
	}
	var report struct {
		Jobs []struct {
			Error int
			Read  side
			Write side
			Sync  struct {
				Latency latency `json:"lat_ns"`
			}
		}
	}
	at := bytes.IndexByte(out, '{')
	if at < 0 {
		return fioResult{}, errors.New("no report")
	}
	if err := json.Unmarshal(out[at:], &report); err != nil {
		return fioResult{}, fmt.Errorf("read the report: %w", err)
	}
	if len(report.Jobs) != 1 {
		return fioResult{}, fmt.Errorf("report of %d jobs, want one", len(report.Jobs))
	}
	j := report.Jobs[0]
	d := j.Read
	if j.Write.Ops > d.Ops {
		d = j.Write
	}
	if j.Error != 0 || d.Ops == 0 {
		return fioResult{}, fmt.Errorf("error %d after %.0f operations", j.Error, d.Ops)
	}
	r := fioResult{
		ops: d.Ops, iops: d.IOPS, mbps: d.Bytes / 1e6, wall: time.Duration(d.Runtime * float64(time.Millisecond)),
		p99: time.Duration(d.Latency.Percentile["99.000000"]), syncP99: time.Duration(j.Sync.Latency.Percentile["99.000000"]),
	}
	return r, nil
}

// tailText keeps the end of what a program said.
func tailText(b []byte) string {
	b = bytes.TrimSpace(b)
	return string(b[max(0, len(b)-1024):])
}

// writes says whether the job leaves something to be made durable.
func (j fioJob) writes() bool { return strings.Contains(j.rw, "write") || j.rw == "randrw" }
