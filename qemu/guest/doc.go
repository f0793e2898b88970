// Package guest builds small machines for tests: a Debian kernel, the modules that are asked for, and one static Go
// program as PID 1.
//
// Purpose. What the appliance's image does not show — a kernel's own recording of a disk, another system's client — runs
// in such a guest beside it. Package inside is the program's half.
//
// Lifetime. Build makes a folder's kernel and initrd once; any number of machines may start from it (vm.Direct).
package guest
