package gateway

import (
	"bytes"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/core/pipeline"
	"github.com/ratchetos/ratchet/plugins/gateway/api"
)

func showPipelines(t *testing.T, f *Feature) pipeline.Snapshot {
	t.Helper()
	s, err := invoke[pipeline.Snapshot](t, f, pipeline.MethodShow, struct{}{})
	if err != nil || s.Workers < 1 {
		t.Fatalf("%v, %+v", err, s)
	}
	return s
}

// committed reports whether the upload's last stage has counted something.
func committed(s pipeline.Snapshot) bool {
	for _, p := range s.Pipelines {
		if p.Name == "upload demo" {
			return p.Stages[len(p.Stages)-1].Items > 0
		}
	}
	return false
}

// TestPipelinesAreShown writes, has it uploaded, and finds the way it took.
func TestPipelinesAreShown(t *testing.T) {
	b := newBox(t, t.TempDir())
	f := b.start()
	c := b.mustDial()
	const n = 1 << 20
	if err := c.Write(0, bytes.Repeat([]byte("a cached volume "), n/16), true); err != nil {
		t.Fatal(err)
	}
	if _, err := invoke[api.Volume](t, f, api.MethodFlush, api.FlushRequest{Name: "demo", TimeoutMS: 20000}); err != nil {
		t.Fatal(err)
	}
	s := showPipelines(t, f)
	// A commit is told of before it is over.
	for deadline := time.Now().Add(10 * time.Second); !committed(s) && time.Now().Before(deadline); {
		s = showPipelines(t, f)
	}
	for _, p := range s.Pipelines {
		if p.Name != "upload demo" {
			continue
		}
		for _, st := range p.Stages {
			if st.Items == 0 {
				t.Errorf("nothing came to stage %s", st.Name)
			}
		}
		if cut, put := p.Stages[0], p.Stages[3]; cut.Bytes < n || put.Bytes == 0 || put.Bytes > n/4 {
			t.Errorf("%s of %d bytes, %s of %d: want a megabyte that is compressed", cut.Name, cut.Bytes, put.Name, put.Bytes)
		}
		table := pipelineTable(s)
		if len(table.Rows) < len(p.Stages) || len(table.Rows[0].Cells) != len(table.Columns) || len(pipelineGauges(s)) != 5*len(table.Rows) {
			t.Errorf("table %v", table)
		}
		return
	}
	t.Errorf("there is no pipeline for the upload: %+v", s.Pipelines)
}
