package api

import "github.com/ratchetos/ratchet/plugins/migration/schedule/draw"

// Methods about when moves happen.
const (
	MethodSchedule = "schedule.show"   // ScheduleRequest → ScheduleReply
	MethodImport   = "schedule.import" // ImportRequest → ImportReply
)

// ScheduleRequest asks for a drawing of so many columns; 0 is 80.
type ScheduleRequest struct {
	Link  string `json:"link,omitempty"` // or HOST/cpu or HOST/memory; all when empty
	Width int    `json:"width,omitempty"`
}

// ScheduleReply shows the forecast of each link and watched host with its band, the booked slots, and why they are where they are.
type ScheduleReply struct {
	draw.View
	// Text is the same for people.
	Text string `json:"text"`
}

// ImportRequest replaces the history of a link by lines of "time,bytes a second", of HOST/cpu by "time,busy processors", or of
// HOST/memory by "time,bytes in use".
type ImportRequest struct {
	Link string `json:"link"`
	CSV  string `json:"csv"`
}

// ImportReply says how many samples there were.
type ImportReply struct {
	Samples int `json:"samples"`
}
