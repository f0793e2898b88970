package counter

import (
	"encoding/binary"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// retries bounds how often a command is repeated that the TPM was not ready for.
const (
	retries    = 20
	retryPause = 25 * time.Millisecond
)

// meter counts commands and repeats those that the TPM has not begun.
type meter struct {
	transport.TPM
	commands int
}

// Send implements transport.TPM.
func (m *meter) Send(command []byte) ([]byte, error) {
	for try := 0; ; try++ {
		m.commands++
		response, err := m.TPM.Send(command)
		if err != nil {
			return nil, &TransportError{err}
		}
		if try == retries || !notBegun(response) {
			return response, nil
		}
		time.Sleep(retryPause)
	}
}

// notBegun reports whether the same bytes may be sent again: after these warnings neither the
// session nonces nor any object has changed.
func notBegun(response []byte) bool {
	if len(response) < 10 {
		return false
	}
	switch tpm2.TPMRC(binary.BigEndian.Uint32(response[6:])) {
	case tpm2.TPMRCRetry, tpm2.TPMRCYielded, tpm2.TPMRCTesting, tpm2.TPMRCNVRate, tpm2.TPMRCNVUnavailable:
		return true
	}
	return false
}
