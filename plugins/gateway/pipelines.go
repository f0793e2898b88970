package gateway

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"github.com/ratchetos/ratchet/core/pipeline"
	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
)

// pipelineMemory bounds what all volumes together hold for upload and read-ahead.
const pipelineMemory = 32 << 20

// newPipelines makes the scheduler of all volumes' uploads and read-aheads. A processor is left to those who wait for an
// answer, where there is more than one.
func newPipelines() *pipeline.Scheduler {
	return pipeline.NewScheduler(pipeline.Limits{Workers: max(1, runtime.GOMAXPROCS(0)-1), Memory: pipelineMemory})
}

// showPipelines is pipeline.MethodShow.
func (f *Feature) showPipelines(context.Context, []byte) (any, error) {
	f.mu.Lock()
	s := f.pipelines
	f.mu.Unlock()
	if s == nil {
		return nil, errors.New("the gateway has not started")
	}
	return s.Snapshot(), nil
}

// pipelineTable shows where the items of each pipeline are.
func pipelineTable(s pipeline.Snapshot) *pluginpb.Table {
	t := &pluginpb.Table{Name: "pipelines", Columns: []string{"pipeline", "stage", "running", "queued", "items", "bytes", "rate"}}
	for _, p := range s.Pipelines {
		for _, st := range p.Stages {
			t.Rows = append(t.Rows, &pluginpb.Row{Cells: []string{
				p.Name, st.Name, fmt.Sprint(st.Running), fmt.Sprint(st.Queued), fmt.Sprint(st.Items), mib(st.Bytes), fmt.Sprintf("%.1f/s", st.Rate),
			}})
		}
	}
	return t
}

// pipelineGauges are the same for metrics: from busy and waited seconds follow the load of a stage and its queue.
func pipelineGauges(s pipeline.Snapshot) (list []*pluginpb.Gauge) {
	for _, p := range s.Pipelines {
		for _, st := range p.Stages {
			for _, g := range []struct {
				name, help string
				value      float64
				counter    bool
			}{
				{"pipeline_items_total", "items that a stage has worked on", float64(st.Items), true},
				{"pipeline_bytes_total", "their bytes", float64(st.Bytes), true},
				{"pipeline_busy_seconds_total", "time of a stage's calls, without that in which a source has nothing to do", st.Busy.Seconds(), true},
				{"pipeline_wait_seconds_total", "time that items stood in the queue before a stage", st.Waited.Seconds(), true},
				{"pipeline_queue_items", "items in the queue before a stage", float64(st.Queued), false},
			} {
				list = append(list, &pluginpb.Gauge{
					Name: g.name, Help: g.help, Value: g.value, Counter: g.counter,
					Labels: map[string]string{"pipeline": p.Name, "stage": st.Name},
				})
			}
		}
	}
	return list
}
