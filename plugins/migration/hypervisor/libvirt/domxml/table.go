package domxml

// table translates words of libvirt to words of QEMU. It is data, unlike a map, which would have to be made at each start of
// the appliance.
type table []struct{ key, value string }

// value of a key, "" if it is not there.
func (t table) value(key string) string {
	for _, row := range t {
		if row.key == key {
			return row.value
		}
	}
	return ""
}

// key of a value, the first of several; "" if there is none.
func (t table) key(value string) string {
	for _, row := range t {
		if row.value == value {
			return row.key
		}
	}
	return ""
}
