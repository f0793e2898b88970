package trial

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/schedule"
)

const mib = 1 << 20

// Lanes are two links, the second of between half and the whole of the first's budget.
func Lanes(rng *rand.Rand) []schedule.Lane {
	first := 1000 * float64(mib)
	return []schedule.Lane{{Name: "a", Budget: first}, {Name: "b", Budget: first * (.5 + .5*rng.Float64())}}
}

// Jobs of a template: VMs of different size and dirty rate, submitted at once. Two in three may go over either link, one in six
// needs both, the rest is bound to one.
func Jobs(rng *rand.Rand, n int, at time.Time) (list []schedule.Job) {
	for i := range n {
		j := schedule.Job{ID: fmt.Sprintf("vm%d", i), VM: fmt.Sprintf("vm%d", i), Submitted: at}
		j.Load.Bytes = uint64(2000+rng.IntN(30000)) * mib
		j.Load.Dirty = float64(rng.IntN(250)) * mib
		j.Load.WorkingSet = j.Load.Bytes / 4
		switch rng.IntN(6) {
		case 0:
			j.Via = [][]string{{"a", "b"}}
		case 1:
			j.Via = [][]string{{[]string{"a", "b"}[rng.IntN(2)]}}
		default:
			j.Via = [][]string{{"a"}, {"b"}}
		}
		list = append(list, j)
	}
	return list
}
