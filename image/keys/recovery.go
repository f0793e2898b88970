package keys

import (
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// recoveryFile is beside the keys but none of them: it is a secret that boxes share.
const recoveryFile = "recovery.key"

// RecoveryKey returns the recovery key of development images, made on first use: 160 random bits
// in groups of four that a person can type at a serial console.
func (r Ring) RecoveryKey() (key string, err error) {
	path := filepath.Join(r.Dir, recoveryFile)
	err = r.locked(func() error {
		b, err := os.ReadFile(path)
		if !errors.Is(err, fs.ErrNotExist) {
			key = strings.TrimSpace(string(b))
			return err
		}
		raw := make([]byte, 20)
		if _, err := rand.Read(raw); err != nil {
			return err
		}
		text := base32.StdEncoding.EncodeToString(raw)
		var groups []string
		for len(text) > 0 {
			groups = append(groups, text[:4])
			text = text[4:]
		}
		key = strings.Join(groups, "-")
		return write(path, []byte(key+"\n"), 0o600)
	})
	if err != nil {
		return "", fmt.Errorf("recovery key of development images: %w", err)
	}
	return key, nil
}
