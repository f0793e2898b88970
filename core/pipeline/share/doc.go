// Package share decides who gets what: how many workers, how much memory and how much bandwidth each pipeline and
// each stage of it may use. It is pure: measurements, weights and the time go in, grants come out; package pipeline
// carries them out on goroutines, package sim on a simulated clock.
//
// Decisions are made on two scales.
//
//   - [Allocate], every 100 ms: a model of the pipelines (what an item costs at each stage) is filled up to the
//     capacity by weighted dominant resource fairness, then corrected by what the queues show.
//   - [Turns], for each item: a free worker serves the pipeline, and in it the stage, that is furthest behind its
//     grant. The same goes for bandwidth, below the ceilings that each [Bucket] of a tree sets. So a grant is what
//     one can count on, not a fence: what one does not use, another gets at once, and splits finer than a whole
//     worker come out exactly.
//
// # Guarantees
//
//   - Grants of a resource sum up to its capacity, never more. (A stage that waits takes no worker.)
//   - Each computing stage has at least a small share of a worker, each pipeline of memory and bandwidth.
//   - Weighted max-min: a pipeline's share of the resource it needs most, divided by its weight, is raised for all
//     alike; only what a pipeline cannot use goes to others, and all that is left over is granted as well.
//   - A plan stays as it is until the new one differs by more than a tenth (or a fortieth of all there is).
//
// # Sources
//
// Ghodsi et al., "Dominant Resource Fairness" (NSDI 2011), progressive filling; Goyal et al., "Start-time Fair
// Queuing" (SIGCOMM 1996), the turns; tc-htb(8), the ceilings of the tree.
package share
