package bench

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
)

const packetRuns = 3

// dataplanePacket measures the balancer's program by BPF_PROG_TEST_RUN, all features compiled in, counters on, 1,000
// VIPs: nanoseconds a packet of established flows beside the harness's floor and two balancers of the usual kind. All
// are Go benchmarks of package table, on a CPU of their own while they run.
func (s *session) dataplanePacket(ctx context.Context) error {
	dir, err := s.folder("packet")
	if err != nil {
		return err
	}
	test := filepath.Join(dir, "table.test")
	compile := exec.CommandContext(ctx, "go", "test", "-c", "-o", test, "./plugins/dataplane/balancer/table")
	compile.Dir = s.source.Root
	if out, err := compile.CombinedOutput(); err != nil {
		return fmt.Errorf("compile the benchmarks of the table: %w\n%s", err, out)
	}
	runs := packetRuns
	if s.Quick {
		runs = 1
	}
	s.note("run the balancer's program and its peers on packets, %d times", runs)
	all := map[string][]float64{}
	for range runs {
		out, err := exec.CommandContext(ctx, test, "-test.run", "^$", "-test.bench", ".", "-test.benchtime", "1x").CombinedOutput()
		if err != nil {
			return fmt.Errorf("benchmarks of the table: %w\n%s", err, out)
		}
		for unit, v := range measured(string(out)) {
			all[unit] = append(all[unit], v)
		}
	}
	record := func(name string, value float64, unit, goal, peer string) {
		s.figures.Record("dataplane."+name, Figure{Value: value, Unit: unit, Goal: goal, Peer: peer, N: runs})
	}
	for _, load := range []struct{ flows, goal string }{{"1", "<= 1.55"}, {"256", "<= 1.55"}, {"32768", "<= 3.4"}} {
		of := func(name string) float64 { return Median(all["ns-"+name+"-"+load.flows]) }
		floor, lru, ours := of("floor"), of("lru"), of("ipv4")
		if floor == 0 || lru == 0 || ours == 0 {
			return fmt.Errorf("benchmarks of the table printed no times for %s flows", load.flows)
		}
		record("packet_"+load.flows, ours, "ns", "", fmt.Sprintf("floor %.0f ns, stateless ring %.0f ns, LRU hash %.0f ns", floor, of("stateless"), lru))
		record("packet_to_floor_"+load.flows, ours/floor, "×", load.goal, "a program that only moves the packet's head")
		record("packet_to_lru_"+load.flows, ours/lru, "×", "", "a balancer with an LRU hash and nothing else")
		record("packet_ipv6_to_ipv4_"+load.flows, of("ipv6")/ours, "×", "<= 1.25", "")
	}
	record("packet_two_cpus", Median(all["two-to-one"]), "×", ">= 1.8", "one pinned thread")
	record("packet_ring_to_swap", Median(all["ns-ring"])/Median(all["ns-swap"]), "×", "<= 0.01", fmt.Sprintf("a swap in an ARRAY_OF_MAPS, %.1f ms", Median(all["ns-swap"])/1e6))
	return nil
}
