// Package domxml translates between libvirt's XML of a domain and a model.Shape.
//
// # Purpose
//
// Three ways: [ShapeOf] reads what a VM is, [Build] writes the XML of a new one, and [Retarget] changes the XML of a VM that
// is about to move into what its destination shall be started as. The last keeps everything that a Shape has no word for
// exactly as it was: a device that was lost on the way would be a guest that does not survive.
//
// # Guarantees
//
// Pure and deterministic; XML is outside data, bounded in size, depth and number of elements. What cannot be expressed, or
// cannot move, is refused with an error that names the element, never dropped in silence.
//
// Source: libvirt's formatdomain documentation, and what libvirtd 9.0 prints.
package domxml
