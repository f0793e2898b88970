// Package guest is the agent inside a guest: it reports what the guest can do, gives it what it lacks, and carries out what
// a plan asks for when hardware comes and goes.
//
// # Why an agent
//
// Hardware that is plugged is not hardware that is used. A Debian guest leaves a plugged processor and the memory of a
// plugged DIMM offline, keeps its addresses on the card that is about to be pulled, and has no driver loaded for a model it
// never had. Only the guest itself can change that, and only it knows whether it could.
//
// # Parts
//
// [Agent] is the engine: requests in, answers out, each order once (package wire). It sees the guest as a tree of files (sysfs and
// procfs) and a few calls (load a module, the network), so that it runs in tests over a tree made up. [Serve] keeps it on
// the virtio-serial port.
//
// # Concurrency and bounds
//
// Orders that change something run one after the other, questions beside them; at most [maxRunning] are under way, others
// are refused as busy. An order ends within the time it came with. Memory use is bounded by the answers remembered.
//
// # Guarantees
//
// Orders name a state; carrying one out again is harmless. A card swap that fails half-way is put back. Nothing in a
// request becomes a path or a command: cards are named by MAC address, modules come from the table of drivers.
//
// Source: Documentation/admin-guide/mm/memory-hotplug.rst, Documentation/core-api/cpu_hotplug.rst, rtnetlink(7),
// Documentation/ABI/testing/sysfs-{block,class-net,devices-system-cpu}.
package guest
