package objstoretest_test

import (
	"testing"

	"github.com/ratchetos/ratchet/plugins/internal/objstore"
	"github.com/ratchetos/ratchet/plugins/internal/objstore/objstoretest"
)

func TestMemory(t *testing.T) {
	objstoretest.Run(t, func(*testing.T) func(*testing.T) objstore.Store {
		m := objstoretest.NewMemory()
		return func(*testing.T) objstore.Store { return m }
	})
}
