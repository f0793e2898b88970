// Package sim runs pipelines on a simulated clock, to hold the decisions of package share against the best that a fixed
// split of the resources could have done.
//
// It makes the same decisions as package pipeline with the same code (share.Dispatcher, share.Allocate), only that a call
// of a stage is a number of simulated seconds. Costs vary by ±30 % from item to item and change as a whole from phase
// to phase. Everything follows from the seed: two runs are the same, whatever the machine.
//
// [Best] is the peer: it tries every way of splitting the workers, and where they are limited memory and bandwidth, among
// the stages and pipelines, and keeps the one with the highest [Score]. It knows the costs in advance, a scheduler does
// not; a scheduler may share a worker among stages, a fixed split cannot. So the ratio can be above 1.
package sim
