package nbd

// Admission decides for one connection, request by request, whether it may change data. It is how a volume is taken
// from one writer and given to another while both stay connected (invariant S15). Reads and FLUSH are not asked
// for. Begin and End are on the hot path and come from many goroutines.
type Admission interface {
	// Begin asks for one operation. After nil End must follow when the operation has ended, whatever came of it.
	// The error reaches the client as one of a Backend does.
	Begin() error
	End()
	// Close tells that the connection is gone and nothing of it is in flight.
	Close()
}

func (s *session) begin() error {
	if s.admission == nil {
		return nil
	}
	return s.admission.Begin()
}

func (s *session) end() {
	if s.admission != nil {
		s.admission.End()
	}
}
