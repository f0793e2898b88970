package vmhost

import (
	"fmt"
	"time"

	"github.com/prometheus/procfs"

	"github.com/ratchetos/ratchet/plugins/migration/model/load"
)

// readLoad reads what the machine has to do, from a mount of proc (proc(5): stat, meminfo, net/dev). Time that a hypervisor below has
// taken is busy, too: nobody else can have it.
func readLoad(proc string) (l load.Host, err error) {
	fs, err := procfs.NewFS(proc)
	if err != nil {
		return l, fmt.Errorf("load of the host: %w", err)
	}
	stat, err := fs.Stat()
	if err != nil {
		return l, fmt.Errorf("load of the host: processors: %w", err)
	}
	// Guests' time is in the user's.
	c := stat.CPUTotal
	l.CPUs, l.Busy = len(stat.CPU), time.Duration((c.User+c.Nice+c.System+c.IRQ+c.SoftIRQ+c.Steal)*float64(time.Second))
	memory, err := fs.Meminfo()
	if err != nil {
		return l, fmt.Errorf("load of the host: memory: %w", err)
	}
	if memory.MemTotalBytes != nil && memory.MemAvailableBytes != nil {
		l.Memory, l.Available = *memory.MemTotalBytes, *memory.MemAvailableBytes
	}
	nics, err := fs.NetDev()
	if err != nil {
		return l, fmt.Errorf("load of the host: NICs: %w", err)
	}
	l.NICs = make(map[string]load.NIC, len(nics))
	for name, n := range nics {
		l.NICs[name] = load.NIC{Sent: n.TxBytes, Received: n.RxBytes}
	}
	return l, nil
}
