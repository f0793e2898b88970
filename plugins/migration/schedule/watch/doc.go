// Package watch reads the load of a resource: from a CSV file with its history, from a page of Prometheus metrics,
// or from the agent of a host.
//
// What it reads comes from outside: lines, pages and numbers are bounded, and what cannot be understood is an error that
// names the line, not a guess. A counter becomes a rate between two looks; one that goes back has begun anew and gives none.
//
// Formats: RFC 4180 with a time and a value in each line; the Prometheus text exposition format 0.0.4.
package watch
