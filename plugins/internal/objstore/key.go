package objstore

import (
	"fmt"
	"strings"
)

// CheckKey reports whether key is one that every driver takes: 1 to MaxKey bytes, elements of
// [A-Za-z0-9._=-] joined by single slashes, no element that starts with a dot. So a key is
// also a safe relative path, and needs no escaping in a URL.
func CheckKey(key string) error {
	if len(key) == 0 || len(key) > MaxKey {
		return fmt.Errorf("object key: %d bytes, want 1 to %d", len(key), MaxKey)
	}
	for el := range strings.SplitSeq(key, "/") {
		// A leading dot covers "." and "..", and leaves names for drivers to hide their own files.
		if el == "" || el[0] == '.' {
			return fmt.Errorf("object key %q: element %q is empty or starts with a dot", key, el)
		}
		if len(el) > 200 {
			return fmt.Errorf("object key %q: element longer than 200 bytes", key)
		}
		for i := 0; i < len(el); i++ {
			if !keyByte(el[i]) {
				return fmt.Errorf("object key %q: character %q not allowed", key, el[i])
			}
		}
	}
	return nil
}

// CheckPrefix reports whether prefix can start a valid key. Empty is fine, so is one that
// ends in a slash or inside an element.
func CheckPrefix(prefix string) error {
	if prefix == "" {
		return nil
	}
	if strings.HasSuffix(prefix, "/") {
		return CheckKey(prefix[:len(prefix)-1])
	}
	return CheckKey(prefix)
}

func keyByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		c == '.' || c == '_' || c == '=' || c == '-'
}
