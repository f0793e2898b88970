// Package pipeline runs work in stages that share workers, memory and bandwidth.
//
// A [Pipeline] is a typed graph built once: [From] or [Inlet] puts items in, [Map] and [Expand] work on them, [Split] and
// [Merge] fan out and in, [Each] is where they end. A [Scheduler] runs all pipelines of a process and is the only owner of
// what they share:
//
//   - Workers: at most so many functions of computing stages run at once. A stage that mostly waits, for a disk or the
//     network, takes none; it has a number of calls at once of its own.
//   - Memory credits: an item that implements [Sized] takes as many bytes when it comes in and gives them back when
//     all that became of it has left the last stage, or earlier what it shrank by.
//   - Bandwidth tokens: a stage that sends takes its item's size from a tree of token buckets before it is called.
//
// Every 100 ms of work, measurements become grants (package share decides). A grant is guaranteed and not a fence: who
// needs less leaves the rest to others, at once and item by item. Of lent memory only half of the grant comes back at once, the
// rest as items leave.
//
// # Lifetime
//
// Build, Run once, and Run returns when all items are through, or at the first error, or when its context ends. It returns
// only after every function it called has returned. [Pipeline.Drain] ends the sources and lets the rest run dry.
//
// # Concurrency
//
// Building is for one goroutine. A stage's function is called by several at once, up to Stage.Limit; each call runs on a
// goroutine that ends with it. All decisions are made under one lock, so items should be worth more than a few
// microseconds of work. An idle scheduler has no goroutine and no timer.
//
// # Guarantees
//
//   - Bounded: a queue holds Stage.Queue items, exceeded only by what the calls running before it still put out. Memory in
//     flight is at most one and a half times the credit, and one item for each source (before its first item is there, for
//     each call of a source): half of its grant is a pipeline's own, whatever others have borrowed and do not return. A
//     pipeline with nothing in flight may always have one item, so that nothing waits for ever.
//   - No call waits for room or credit while it holds a worker; therefore no cycle of waiting can form.
//   - An Ordered stage puts out in the order in which items came to it. Others do not promise any.
//   - First error wins: it cancels the context of all calls, queued items are dropped with their credit, and Run returns it.
//
// # Sources
//
// Welsh et al., "SEDA" (SOSP 2001): stages, queues, controllers. Demand instead of pushing follows GenStage. See package
// share for how shares are decided, package sim for how well.
package pipeline
