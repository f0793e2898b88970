// Package client is the manager's end of the agent on a hypervisor host (package vmhost), and the words both use.
//
// # Protocol
//
// HTTP/1.1 over TLS 1.3 with certificates on both sides (package pki), bodies are JSON:
//
//	GET  /v1/host                        Host
//	GET  /v1/load                        load.Host
//	GET  /v1/vms                         []VM
//	POST /v1/vms/VM/start                Start        starts a VM, or the destination of a move
//	POST /v1/vms/VM/settle               Settle       the destination of a move becomes a VM that lives there
//	POST /v1/vms/VM/end                  End          ends QEMU and forgets the VM
//	POST /v1/vms/VM/plug, unplug         Plug, Unplug
//	POST /v1/vms/VM/qmp                  Command      a QMP command that the host lets through; the reply is QMP's
//	GET  /v1/vms/VM/shape                model.Shape  as it is now
//	POST /v1/vms/VM/channel/NAME         101: the bytes of a character device, as "agent"
//	GET  /v1/events                      lines of Event until either side closes
//
// The header Ratchet-Epoch carries the manager's epoch. The host keeps the highest one it was given and answers requests
// with a lower one with 412 (invariant M4). Over the host's own unix socket the operator needs none.
//
// # Lifetime and concurrency
//
// A Client may be used from many goroutines. It holds idle connections until Close.
package client
