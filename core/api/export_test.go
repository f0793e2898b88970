package api

import "time"

// SetBodyTimeout shortens the time a caller has to send its request.
func (s *Server) SetBodyTimeout(d time.Duration) { s.bodyTimeout = d }
