package counter

import "strings"

// CanonicalKey is a recovery key as it is used: people type them, so that case, spaces and dashes do not
// matter. It is also what opens a volume with cryptsetup.
func CanonicalKey(typed string) []byte {
	return []byte(strings.NewReplacer(" ", "", "-", "", "\t", "").Replace(strings.ToUpper(typed)))
}
