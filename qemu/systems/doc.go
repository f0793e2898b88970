// Package systems holds the end-to-end tests of the fifteen systems, one TestSystem function each, and the runner
// behind `make systems`.
//
// A row of the table is built when its test function exists; it is ok when that function passes and has logged what
// it saw, in lines that start with "seen: ". A skipped test is a failure: on a machine that cannot show a system,
// the system is not shown. A row without a function reads "not built" and is never counted as ok.
//
// A test may also log lines "attack: row: case: verdict". They are printed above its row, those of one row together: the
// attack table of the secure counter, of which a suite must show each row.
//
// The runner compiles the tests once and runs one row after the other, each in a process of its own with a time
// limit, so that a row that hangs or crashes takes no other along. It keeps each row's full output.
package systems
