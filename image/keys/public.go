package keys

import (
	"fmt"
	"os"
	"path/filepath"
)

// PublicFiles are the ring without its secrets, by file name: whoever has them can check what the ring signed, enroll
// its certificates and build the same image but for the signatures. A folder of them is a ring.
func (r Ring) PublicFiles() (map[string][]byte, error) {
	if _, err := r.Enrolment(); err != nil { // which makes three of them
		return nil, err
	}
	names := []string{"PK.auth", "KEK.auth", "db.auth"}
	for _, e := range r.List() {
		names = append(names, e.Role.half())
	}
	if r.Development() {
		names = append(names, marker)
	}
	files := make(map[string][]byte)
	for _, name := range names {
		b, err := os.ReadFile(filepath.Join(r.Dir, name))
		if err != nil {
			return nil, fmt.Errorf("read public key: %w", err)
		}
		files[name] = b
	}
	return files, nil
}
