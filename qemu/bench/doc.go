// Package bench measures what the issues promise and prints a line for each figure:
//
//	bench <area>.<metric> <value> <unit> (goal <= 0.60, peer <what it was held against>)
//
// and writes the same to build/bench.json. A figure is printed whether its goal is met or not; nothing here
// fails because a machine is slow. What cannot be measured is an error. Medians over N runs; ratios are measured
// interleaved in one run.
//
// [Run] goes through the areas one after another, so that they do not disturb each other, and says before and after
// each how busy the machine is. An area is one file: image.go, boot.go, core.go; gateway is several areas, gateway_*.go.
// All they make lies in Options.Dir.
package bench
