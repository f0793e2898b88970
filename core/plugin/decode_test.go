package plugin

import (
	"strings"
	"testing"
	"time"
)

func TestDecode(t *testing.T) {
	var c struct {
		Size Size     `json:"size" config:"required"`
		Age  Duration `json:"age"`
	}
	v := Decode(Section{JSON: []byte(`{"siez": "1MiB", "age": "5m"}`)}, &c)
	if !v.Failed() || len(v.Diagnostics) != 2 || time.Duration(c.Age) != 5*time.Minute {
		t.Fatalf("diagnostics %v, value %+v", v.Diagnostics, c)
	}
	if d := v.Diagnostics[1]; !d.GetKey() || d.GetPath() != "siez" || !strings.Contains(d.GetMessage(), `did you mean "size"`) {
		t.Errorf("misspelt key: %v", d)
	}
	if v := Decode(Section{JSON: []byte(`{"size": 4096}`)}, &c); v.Failed() || c.Size != 4096 {
		t.Errorf("good section: %v, size %s", v.Diagnostics, c.Size)
	}
	var warned Validation
	warned.Warnf("size", "is odd")
	if warned.Failed() {
		t.Error("a warning is a failure")
	}
}

func TestSchemaOfTheImpossible(t *testing.T) {
	if s := Schema(struct{ C chan int }{}); !strings.Contains(s, `"not":{}`) || !strings.Contains(s, "chan int") {
		t.Errorf("schema: %s", s)
	}
}
