// Package kmod loads kernel modules from the closure that the image carries.
//
// The image has no depmod index. /lib/modules/closure lists every module once, dependencies
// before dependents, one a line:
//
//	NAME PATH [DEPENDENCY,...]
//	NAME builtin
//
// A Loader loads a module at most once, its dependencies first. It may be used by several
// goroutines, which load different modules beside each other; LoadFirst goes before the rest. Nothing is
// ever unloaded, which is why Discard can remove the files of what is loaded.
package kmod
