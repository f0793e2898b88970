package plugin

import (
	"log/slog"
	"strings"
	"testing"
	"time"
)

// TestLogHandler: the log of a plugin says the unit of a duration.
func TestLogHandler(t *testing.T) {
	var out strings.Builder
	slog.New(logHandler(&out, slog.LevelInfo)).Info("serves", "took", 13860217*time.Nanosecond, "n", 3)
	if want := `"msg":"serves","took":"13.860217ms","n":3}`; !strings.Contains(out.String(), want) {
		t.Errorf("%s does not hold %s", out.String(), want)
	}
}
