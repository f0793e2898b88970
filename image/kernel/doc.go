// Package kernel fetches the Debian kernel an image is built on and finds the modules it needs.
//
// configs/kernel.lock names package, version and SHA-256 of each flavour. [Fetch] downloads
// the .deb with apt-get (the only client that knows the machine's mirrors), checks the digest,
// and unpacks kernel and modules into the user's cache folder, once. Nothing is installed and
// no privilege is needed. A locked version that the mirrors have dropped is replaced by today's
// candidate; [Kernel.Locked] is then false and [Kernel.Warning] says what happened. A download
// with the wrong digest is never used.
//
// Debian's packages carry no modules.dep (depmod runs when they are installed), so unpacking
// writes an index of name, dependencies and aliases from each module's own .modinfo section.
// [Kernel.Closure] answers from that index. Module files are copied as they are: stripping one
// would remove the signature that Secure Boot lockdown demands.
//
// Concurrent builds share the cache under a file lock. A [Kernel] is read-only after Fetch.
//
// Source: deb(5), modprobe.d(5) on soft dependencies, Documentation/kbuild/modules.rst.
package kernel
