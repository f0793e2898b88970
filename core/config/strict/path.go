package strict

import "strconv"

// Join appends a key to a path: Join("volumes[0]", "disk") is "volumes[0].disk". A key that
// is not a plain word is quoted, so that every path has one reading: `hosts["a.b"]`.
func Join(path, key string) string {
	if !plainWord(key) {
		return path + "[" + strconv.Quote(key) + "]"
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

// Index appends a list index to a path.
func Index(path string, i int) string {
	return path + "[" + strconv.Itoa(i) + "]"
}

// Concat puts a path in front of another one, as core does with the paths of a plugin.
func Concat(prefix, path string) string {
	switch {
	case prefix == "":
		return path
	case path == "" || path[0] == '[':
		return prefix + path
	}
	return prefix + "." + path
}

func plainWord(s string) bool {
	if s == "" {
		return false
	}
	for _, c := range []byte(s) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}
