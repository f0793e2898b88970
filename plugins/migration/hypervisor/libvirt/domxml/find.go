package domxml

import "fmt"

// Find is the device of an ID of a Shape, nil if there is none.
func Find(dom *Node, id string) *Node {
	for _, d := range dom.Get("devices").Elements() {
		if id != "" && idOf(d) == id {
			return d
		}
	}
	return nil
}

// Request asks a virtio-mem device for bytes.
func Request(device *Node, bytes uint64) error {
	target := device.Get("target")
	if device.Name != "memory" || device.Attr("model") != "virtio-mem" || target == nil {
		return fmt.Errorf("<%s> %s is no virtio-mem", device.Name, idOf(device))
	}
	target.Replace(target.Get("requested"), sized("requested", bytes))
	return nil
}

// Current is how much a virtio-mem device offers now, in bytes.
func Current(device *Node) (uint64, error) { return bytesOf(device.Get("target", "current")) }
