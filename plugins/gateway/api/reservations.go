package api

// MethodClear of the companion (plugin target) gives up the persistent reservations that are kept of one disk:
// request ClearRequest, reply ClearedReservations.
const MethodClear = "reservations.clear"

// ClearRequest names the volume behind a disk that initiators do not use any more.
type ClearRequest struct {
	Name string `json:"name"`
	// Force gives up reservations that can be read, too.
	Force bool `json:"force,omitempty"`
}

// ClearedReservations says what was removed.
type ClearedReservations struct {
	File          string `json:"file"`
	Registrations int    `json:"registrations"`
	Problem       string `json:"problem,omitempty"` // why it could not be read
}
