package draw

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/schedule"
)

const (
	// back and ahead are the hours shown before and after now.
	back  = 6
	ahead = 18
	// rows of a chart, each a tenth of the capacity.
	rows = 10
	// margin is for the labels at the left.
	margin    = 7
	leastWide = 40
	mostWide  = 240
	// longName is where names of VMs are cut.
	longName = 20
)

// Schedule draws a view into so many columns; 0 is 80.
func Schedule(v View, width int) string {
	if width == 0 {
		width = 80
	}
	c := canvas{now: v.Now, columns: min(max(width, leastWide), mostWide) - margin}
	var b strings.Builder
	for _, l := range v.Links {
		c.link(&b, l, v.Slots)
		b.WriteByte('\n')
	}
	if len(v.Slots) == 0 {
		b.WriteString("no moves are waiting or under way\n")
	}
	for _, s := range v.Slots {
		c.explain(&b, s)
	}
	return b.String()
}

// canvas maps time to columns.
type canvas struct {
	now     time.Time
	columns int
}

func (c canvas) perColumn() time.Duration {
	return (back + ahead) * time.Hour / time.Duration(c.columns)
}

func (c canvas) at(column int) time.Time {
	return c.now.Add(-back * time.Hour).Add(time.Duration(column) * c.perColumn())
}

// column of a time, which may be outside.
func (c canvas) column(at time.Time) int {
	return int(math.Floor(float64(at.Sub(c.at(0))) / float64(c.perColumn())))
}

func (c canvas) link(b *strings.Builder, l Link, slots []Slot) {
	fmt.Fprintf(b, "%s: %s%s; %s\n", l.Name, l.size(), l.used(), l.Method)
	if l.Problem != "" {
		fmt.Fprintf(b, "  ! %s\n", l.Problem)
	}
	if len(l.Past)+len(l.Mid) > 0 {
		c.chart(b, l)
	}
	for _, s := range slots {
		for _, name := range s.Links {
			if name == l.Name {
				c.slot(b, s)
			}
		}
	}
	c.axis(b)
}

// size says how much there is, and how much of it moves may use.
func (l Link) size() string {
	switch {
	case l.Capacity == 0:
		return "not known yet how much"
	case l.Unit == Processors:
		return fmt.Sprintf("%.3g processors, moves may use %.3g", l.Capacity, l.Budget)
	case l.Unit == Bytes:
		return fmt.Sprintf("%s, of which %s stay free", schedule.Bytes(uint64(l.Capacity)), schedule.Bytes(uint64(l.Capacity-l.Budget)))
	}
	return fmt.Sprintf("%s, moves may use %s", schedule.PerSecond(l.Capacity), schedule.PerSecond(l.Budget))
}

// used says what others use now.
func (l Link) used() string {
	switch {
	case l.Load == nil:
		return ""
	case l.Unit == Processors:
		return fmt.Sprintf(", others use %.2g", *l.Load)
	case l.Unit == Bytes:
		return fmt.Sprintf(", %s are in use", schedule.Bytes(uint64(*l.Load)))
	}
	return ", others use " + schedule.PerSecond(*l.Load)
}

// chart is rows of characters: █ measured, ─ expected, ░ where it will be four times in five.
func (c canvas) chart(b *strings.Builder, l Link) {
	past, low, mid, high := c.sample(l, l.Past, 0), c.sample(l, l.Low, len(l.Past)), c.sample(l, l.Mid, len(l.Past)), c.sample(l, l.High, len(l.Past))
	for row := rows - 1; row >= 0; row-- {
		bottom, top := float64(row)/rows, float64(row+1)/rows
		line := make([]rune, c.columns)
		for i := range line {
			line[i] = ' '
			switch {
			case mid[i] >= 0 && (mid[i] >= bottom && mid[i] < top || row == rows-1 && mid[i] >= 1):
				line[i] = '─'
			case mid[i] >= 0 && low[i] < top && high[i] >= bottom:
				line[i] = '░'
			case mid[i] < 0 && past[i] >= 0 && past[i] > (bottom+top)/2:
				line[i] = '█'
			}
		}
		label := "     "
		if row == rows-1 || row == rows/2-1 {
			label = fmt.Sprintf("%3.0f %%", top*100)
		}
		fmt.Fprintf(b, "%s ┤%s\n", label, strings.TrimRight(string(line), " "))
	}
}

// sample is the mean of the slots that fall into each column; -1 for none.
func (c canvas) sample(l Link, values []float64, offset int) []float64 {
	out := make([]float64, c.columns)
	count := make([]int, c.columns)
	for i, v := range values {
		k := c.column(l.From.Add(time.Duration(offset+i) * l.Step))
		if v >= 0 && k >= 0 && k < c.columns {
			out[k] += v
			count[k]++
		}
	}
	for k := range out {
		if count[k] > 0 {
			out[k] /= float64(count[k])
			continue
		}
		out[k] = -1
		// A column narrower than a slot is like the one before it.
		if k > 0 && c.perColumn() < l.Step {
			out[k] = out[k-1]
		}
	}
	return out
}

func (c canvas) slot(b *strings.Builder, s Slot) {
	from, to := c.column(s.Start), c.column(s.End)
	if s.Start.IsZero() || to < 0 || from >= c.columns {
		return
	}
	from, to = max(0, from), min(c.columns-1, max(from, to))
	bar := strings.Repeat(" ", from) + strings.Repeat("▓", to-from+1)
	name := s.VM
	if len(name) > longName {
		name = name[:longName-1] + "…"
	}
	if room := c.columns - to - 2; room >= len(name) {
		bar += " " + name
	} else if from > len(name) {
		bar = strings.Repeat(" ", from-len(name)-1) + name + " " + strings.Repeat("▓", to-from+1)
	}
	fmt.Fprintf(b, "%*s%s\n", margin, "", bar)
}

// axis has a mark at now and the time every few hours.
func (c canvas) axis(b *strings.Builder) {
	line, text := []rune(strings.Repeat("─", c.columns)), []rune(strings.Repeat(" ", c.columns+5))
	every := 3 * time.Hour
	if c.columns < 60 {
		every = 6 * time.Hour
	}
	for t := c.at(0).Truncate(every).Add(every); t.Before(c.at(c.columns)); t = t.Add(every) {
		k := c.column(t)
		line[k] = '┬'
		copy(text[k:], []rune(t.UTC().Format("15:04")))
	}
	if k := c.column(c.now); k >= 0 && k < c.columns {
		line[k] = '▲'
	}
	fmt.Fprintf(b, "      └%s\n%*s%s\n", string(line), margin, "", strings.TrimRight(string(text), " "))
}

func (c canvas) explain(b *strings.Builder, s Slot) {
	fmt.Fprintf(b, "%s (%s) %s", s.VM, s.ID, s.State)
	if !s.Start.IsZero() {
		fmt.Fprintf(b, ", %s to %s UTC", s.Start.UTC().Format("Mon 15:04:05"), s.End.UTC().Format("15:04:05"))
	}
	b.WriteByte('\n')
	for _, why := range s.Why {
		fmt.Fprintf(b, "  %s\n", why)
	}
}
