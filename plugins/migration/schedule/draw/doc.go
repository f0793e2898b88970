// Package draw shows a schedule in a terminal: for each link what was measured, what is expected with its band, and the slots that
// are booked, all on one axis of time; below them why each slot is where it is.
//
// Pure: a View goes in, text comes out. It uses block characters that every font of a terminal has, and no colours, so that it
// can be piped and kept.
package draw
