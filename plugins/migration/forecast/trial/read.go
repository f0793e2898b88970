package trial

import (
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/schedule/watch"
)

// Series is a load as it was measured.
type Series struct {
	Name    string
	Samples []watch.Sample
}

// ReadAll reads every .csv and .csv.gz of a folder.
func ReadAll(dir string) (list []Series, err error) {
	for _, pattern := range []string{"*.csv", "*.csv.gz"} {
		paths, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return nil, err
		}
		for _, path := range paths {
			s, err := Read(path)
			if err != nil {
				return nil, err
			}
			list = append(list, s)
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("no .csv or .csv.gz in %s", dir)
	}
	return list, nil
}

// Read reads one file. Samples are put in the order of their times.
func Read(path string) (Series, error) {
	f, err := os.Open(path)
	if err != nil {
		return Series{}, err
	}
	defer f.Close()
	var r io.Reader = f
	if strings.HasSuffix(path, ".gz") {
		if r, err = gzip.NewReader(f); err != nil {
			return Series{}, fmt.Errorf("read %s: %w", path, err)
		}
	}
	samples, err := watch.ReadCSV(r)
	if err != nil {
		return Series{}, fmt.Errorf("read %s: %w", path, err)
	}
	slices.SortStableFunc(samples, func(a, b watch.Sample) int { return a.At.Compare(b.At) })
	name := strings.TrimSuffix(strings.TrimSuffix(filepath.Base(path), ".gz"), ".csv")
	return Series{name, samples}, nil
}

// step is the length of the slots that fit a series.
func (s Series) step() time.Duration {
	var gaps []time.Duration
	for i := 1; i < len(s.Samples); i++ {
		gaps = append(gaps, s.Samples[i].At.Sub(s.Samples[i-1].At))
	}
	slices.Sort(gaps)
	if len(gaps) > 0 && gaps[len(gaps)/2] > 20*time.Minute {
		return 30 * time.Minute
	}
	return 5 * time.Minute
}

// grid is a series on slots: the load, and which slots were measured.
type grid struct {
	step     time.Duration
	begin    time.Time
	load     []float64
	measured []bool
}

func (s Series) grid() grid {
	g := grid{step: s.step()}
	if len(s.Samples) == 0 {
		return g
	}
	g.begin = s.Samples[0].At.Truncate(g.step)
	n := int(s.Samples[len(s.Samples)-1].At.Sub(g.begin)/g.step) + 1
	scale := s.scale()
	counts := make([]float64, n)
	g.load, g.measured = make([]float64, n), make([]bool, n)
	for _, x := range s.Samples {
		i := int(x.At.Sub(g.begin) / g.step)
		g.load[i] += scale(x.Value)
		counts[i]++
	}
	for i := range g.load {
		if g.measured[i] = counts[i] > 0; g.measured[i] {
			g.load[i] /= counts[i]
		} else {
			g.load[i] = g.load[i-1] // the first slot has the first sample
		}
	}
	return g
}

// most is the highest load that is counted.
const most = .97

// scale makes loads of values.
func (s Series) scale() func(float64) float64 {
	var values []float64
	for _, x := range s.Samples {
		values = append(values, x.Value)
	}
	slices.Sort(values)
	low, high := values[len(values)/200], values[len(values)*995/1000]
	return func(v float64) float64 {
		if high <= low {
			return 0
		}
		return min(most, max(0, (v-low)/(high-low)))
	}
}
