// Package plugin is what plugin authors use: the Feature interface, and Serve, which turns
// a Feature into a plugin process of core.
//
// # A plugin in one breath
//
// Core starts the process, which confines itself (package sandbox), shows its TLS
// certificate and waits. Core asks it to Validate its section of the configuration, opens
// the hardware and sockets the answer wants, calls Configure, sends the descriptors over
// the control socket and calls Start. From then on a Watch stream carries health and
// tables to core at least once a second; a silent stream is an unhealthy plugin.
//
// # Lifetime
//
// A process serves one Feature once: after Stop it exits, and a restart is a new process.
// A Session and its handles are valid until Stop returns. With descriptor.warm_spare a
// second process stands by, configured and not started; it holds no handles.
//
// # Concurrency
//
// Describe and Validate may be called at any time. Configure, Start and Stop are called
// one at a time. Invoke calls may run beside each other and beside Drain, but never beside
// Configure, Start or Stop; Stop first cancels the contexts of those that are running, and
// Configure those that still run after some seconds.
//
// # Guarantees
//
// A plugin never dies of a lost log pipe, stops when core is gone, and is only reachable
// by the core that started it (TLS 1.3, the boot's own CA, core's client certificate).
// The descriptors of handles belong to the feature; everything else belongs to Serve.
//
// See docs/explanation/plugin-host.md and docs/howto/write-a-plugin.md.
package plugin
