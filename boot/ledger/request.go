package ledger

import "fmt"

const (
	// MaxRequest is the largest request or outcome, in bytes.
	MaxRequest = 16 << 10

	requestOffset = 0x0A0000
	outcomeOffset = 0x0A8000
)

// ReadRequest reads what core left for init. Errors: ErrEmpty, ErrCorrupt, ErrNewer, or the medium's.
func (s *Store) ReadRequest() (string, error) { return s.readText(requestOffset, kindRequest) }

// WriteRequest leaves a request for the next boot, in place of one that is there.
func (s *Store) WriteRequest(text string) error {
	return s.writeText(requestOffset, kindRequest, text)
}

// ClearRequest takes the request away, so that it is carried out at most once and refused at most once.
func (s *Store) ClearRequest() error { return s.write(make([]byte, headerSize), requestOffset) }

// ReadOutcome reads what init made of the last request. Errors as those of ReadRequest.
func (s *Store) ReadOutcome() (string, error) { return s.readText(outcomeOffset, kindOutcome) }

// WriteOutcome records what init made of a request.
func (s *Store) WriteOutcome(text string) error {
	return s.writeText(outcomeOffset, kindOutcome, text)
}

func (s *Store) readText(at int64, k kind) (string, error) {
	b, err := s.readRecord(at, k, MaxRequest)
	if err != nil {
		return "", err
	}
	r, err := decodeRecord(b, k, MaxRequest)
	return string(r.payload), err
}

func (s *Store) writeText(at int64, k kind, text string) error {
	if len(text) > MaxRequest {
		return fmt.Errorf("write LEDGER at %#x: text of %d bytes, at most %d", at, len(text), MaxRequest)
	}
	return s.write(record{kind: k, payload: []byte(text)}.encode(), at)
}
