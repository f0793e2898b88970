package log

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
)

// TestCrowd runs the scripts of testdata/crowd: who gets the turn, who is served by whose flush.
func TestCrowd(t *testing.T) {
	datadriven.Walk(t, "testdata/crowd", func(t *testing.T, path string) {
		c := newCrowd()
		names := map[*waiter]string{}
		waiting := map[string]*waiter{}
		verdicts := func() (out string) {
			for _, name := range strings.Fields("a b c d e f") {
				w := waiting[name]
				if w == nil {
					continue
				}
				select {
				case v := <-w.verdict:
					delete(waiting, name)
					switch {
					case v.lead:
						out += fmt.Sprintf("%s has the turn\n", name)
					case v.err != nil:
						out += fmt.Sprintf("%s: %v\n", name, v.err)
					default:
						out += fmt.Sprintf("%s is served\n", name)
					}
				default:
				}
			}
			return out
		}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "join":
				var name string
				var pos int64
				d.ScanArgs(t, "name", &name)
				d.ScanArgs(t, "pos", &pos)
				w, lead := c.join(pos, 0)
				if lead {
					return fmt.Sprintf("%s has the turn\n", name)
				}
				names[w], waiting[name] = name, w
				return fmt.Sprintf("%s waits\n", name)
			case "over":
				var durable int64
				var failure error
				d.ScanArgs(t, "durable", &durable)
				if d.HasArg("fail") {
					failure = errors.New("disk failed")
				}
				c.over(func(w *waiter) (bool, error) { return failure != nil || w.pos <= durable, failure })
				return verdicts() + fmt.Sprintf("next waits for %d\n", c.wanted)
			case "desert":
				var name string
				d.ScanArgs(t, "name", &name)
				_, told := c.desert(waiting[name])
				delete(waiting, name)
				return fmt.Sprintf("told before: %v\n", told)
			case "idle":
				return fmt.Sprintln(c.idle())
			}
			t.Fatalf("%s: no such command", d.Cmd)
			return ""
		})
	})
}

// TestFlushGivesUp ends the waiting of a flush whose turn would be next: the turn is not lost.
func TestFlushGivesUp(t *testing.T) {
	l, _ := newLog(t, Options{})
	if _, lead := l.crowd.join(0, 0); !lead {
		t.Fatal("no turn to be had")
	}
	appendAll(t, l, block(1))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := l.Flush(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("flush without a turn: %v", err)
	}
	l.crowd.over(func(*waiter) (bool, error) { return false, nil })
	flush(t, l)
}
