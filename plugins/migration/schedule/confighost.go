package schedule

import "github.com/ratchetos/ratchet/core/config/strict"

// Host is a machine that VMs leave and come to. Its processors are shared with the guests that it runs, its memory has to hold who comes.
type Host struct {
	Name   string `json:"name" config:"required" jsonschema:"description=name of the host, as in plugins.migration.hosts"`
	CPU    CPU    `json:"cpu,omitzero" jsonschema:"description=its processors, which moves share with guests"`
	Memory Memory `json:"memory,omitzero" jsonschema:"description=its memory, which has to hold who comes"`
}

// CPU is the processors of a host.
type CPU struct {
	Count  int         `json:"count,omitempty" config:"min=0,max=8192" jsonschema:"description=how many there are; as the host's agent says by default"`
	Budget float64     `json:"budget,omitempty" jsonschema:"description=how many moves may use together, as 2 or .5; all by default"`
	Rate   strict.Size `json:"rate,omitempty" jsonschema:"description=bytes a second that a move sends or takes in with one of them (default 300MiB)"`
	Watch  Watch       `json:"watch,omitzero" jsonschema:"description=where its load is read: busy seconds a second, or with free idle ones; from the host's agent by default"`
}

// Memory is that of a host.
type Memory struct {
	Size  strict.Size `json:"size,omitempty" jsonschema:"description=bytes that there are; as the host's agent says by default"`
	Keep  strict.Size `json:"keep,omitempty" jsonschema:"description=bytes that stay free when a VM has come"`
	Watch Watch       `json:"watch,omitzero" jsonschema:"description=where its load is read: bytes in use, or with free bytes available; from the host's agent by default"`
}

// defaultRate is bytes a second of a move over TLS with one processor: docs/explanation/migration-schedule.md has what was measured.
const defaultRate = 300 << 20

// PerCPU is how many bytes a second a move sends or takes in with one processor.
func (c CPU) PerCPU() float64 {
	if c.Rate == 0 {
		return defaultRate
	}
	return float64(c.Rate)
}

func (h Host) check(problem func(path, text string)) {
	switch c := h.CPU; {
	case c.Budget < 0:
		problem(".cpu.budget", "is below 0")
	case c.Count > 0 && c.Budget > float64(c.Count):
		problem(".cpu.budget", "is more than there are")
	case c.Count == 0 && c.Watch.Metrics != "":
		problem(".cpu.count", "is missing: a page of metrics does not say how many there are")
	}
	switch m := h.Memory; {
	case m.Size > 0 && m.Keep >= m.Size:
		problem(".memory.keep", "leaves nothing of the size")
	case m.Size == 0 && m.Watch.Metrics != "":
		problem(".memory.size", "is missing: a page of metrics of what is in use does not say how much there is")
	}
	h.CPU.Watch.checkOwn(func(field, text string) { problem(".cpu.watch"+field, text) })
	h.Memory.Watch.checkOwn(func(field, text string) { problem(".memory.watch"+field, text) })
}
