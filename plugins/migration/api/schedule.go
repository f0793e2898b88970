package api

import "time"

// Methods about when moves happen.
const (
	MethodSchedule = "schedule.show" // ScheduleRequest → ScheduleReply
)

// ScheduleRequest asks for a drawing of so many columns; 0 is 80.
type ScheduleRequest struct {
	Link  string `json:"link,omitempty"` // all when empty
	Width int    `json:"width,omitempty"`
}

// ScheduleReply shows the forecast of each link with its band, the booked slots, and why they are where they are.
type ScheduleReply struct {
	Text  string    `json:"text"`
	Slots []Slot    `json:"slots"`
	Links []LinkRow `json:"links"`
}

// Slot is the time booked for one move.
type Slot struct {
	ID    string    `json:"id"`
	VM    string    `json:"vm"`
	Link  string    `json:"link"`
	Begin time.Time `json:"begin"`
	End   time.Time `json:"end"`
	Rate  uint64    `json:"rate"` // bytes a second at most
	Why   string    `json:"why"`
}

// LinkRow is what is known of a link.
type LinkRow struct {
	Name    string `json:"name"`
	Budget  uint64 `json:"budget"`  // bytes a second
	Samples int    `json:"samples"` // of its load
	Method  string `json:"method"`  // of its forecast, or why there is none
}
