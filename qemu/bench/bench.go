package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/ratchetos/ratchet/image/builder"
)

// Options of a run; the zero value measures every area.
type Options struct {
	// Areas is comma-separated; all if empty.
	Areas string
	// Quick makes ratios of two alternations instead of nine: enough to see whether a change matters, not to state a figure.
	Quick bool
	// Dir is for what is built and booted, build/bench if empty.
	Dir string
	// Series is a folder of CSV files that forecasts are tried on instead of those of the repository.
	Series string
	// File gets the figures, build/bench.json if empty.
	File string
	// Cert gives the only certificate Secure Boot accepts, as PEM; asked after a build, which makes the key.
	Cert func() ([]byte, error)
	// Out gets the figures, Progress what is being done meanwhile; nil for silence.
	Out, Progress io.Writer
}

// area is a group of figures that are measured together.
type area struct {
	name    string
	measure func(*session, context.Context) error
}

// areas in the order they run: image leaves behind what boot needs.
func areas() []area {
	all := append([]area{{"image", (*session).image}, {"boot", (*session).boot}, {"core", (*session).core}, {"update", (*session).update}}, gatewayAreas()...)
	return append(all, area{"pipeline", (*session).pipeline}, area{"schedule", (*session).schedule}, area{"dataplane/packet", (*session).dataplanePacket}, area{"dataplane/balancer", (*session).dataplaneBalancer}, area{"dataplane/group", (*session).dataplaneGroup}, area{"dataplane/vni", (*session).dataplaneVNI},
		area{"dataplane/lease", (*session).dataplaneLease},
		area{"migration/move", (*session).migrationMove}, area{"migration/nic", (*session).migrationNIC}, area{"migration/converge", (*session).migrationConverge}, area{"migration/admission", (*session).migrationAdmission}, area{"migration/spec", (*session).migrationSpec}, area{"migration/links", (*session).migrationLinks})
}

// Areas names every area and, before its parts, every group of areas.
func Areas() (names []string) {
	for _, a := range areas() {
		group, _, _ := strings.Cut(a.name, "/")
		for _, name := range []string{group, a.name} {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// choose returns the areas of a comma-separated list. A name without a slash stands for all areas below it as well.
func choose(list string) ([]area, error) {
	all := areas()
	if strings.TrimSpace(list) == "" {
		return all, nil
	}
	names := Areas()
	wanted := make(map[string]bool)
	for name := range strings.SplitSeq(list, ",") {
		name = strings.TrimSpace(name)
		if !slices.Contains(names, name) {
			return nil, fmt.Errorf("no bench area %q; there are: %s", name, strings.Join(names, " "))
		}
		wanted[name] = true
	}
	return slices.DeleteFunc(all, func(a area) bool {
		group, _, _ := strings.Cut(a.name, "/")
		return !wanted[a.name] && !wanted[group]
	}), nil
}

// session is one run in progress.
type session struct {
	Options
	figures Recorder
	source  builder.Source
	built   map[string]builder.Manifest // by flavour
	binary  string                      // the appliance for this machine, once compiled
	folders []string                    // of the area that is being measured
}

// Run measures. An area that cannot be measured does not keep the others from it; the error names each.
func Run(ctx context.Context, o Options) error {
	chosen, err := choose(o.Areas)
	if err != nil {
		return err
	}
	s := &session{Options: o, built: make(map[string]builder.Manifest)}
	if s.Dir == "" {
		s.Dir = filepath.Join("build", "bench")
	}
	if s.Dir, err = filepath.Abs(s.Dir); err != nil {
		return err
	}
	if s.File == "" {
		s.File = filepath.Join("build", "bench.json")
	}
	if s.Out == nil {
		s.Out = io.Discard
	}
	if s.Progress == nil {
		s.Progress = io.Discard
	}
	if s.source, err = builder.FindSource(ctx); err != nil {
		return err
	}
	s.figures = Recorder{Out: s.Out, Commit: s.source.Version}
	var failed []error
	for _, a := range chosen {
		s.load(a.name, "before")
		if err := s.measure(ctx, a); err != nil {
			failed = append(failed, fmt.Errorf("bench %s: %w", a.name, err))
		}
		s.load(a.name, "after")
		if err := s.figures.Save(s.File); err != nil {
			return errors.Join(append(failed, err)...)
		}
	}
	return errors.Join(failed...)
}

// measure runs an area and removes what it left, which can be tens of gigabytes. What failed is kept to be looked at.
func (s *session) measure(ctx context.Context, a area) error {
	s.folders = nil
	if err := a.measure(s, ctx); err != nil {
		return err
	}
	for _, dir := range s.folders {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("remove what was measured on: %w", err)
		}
	}
	return nil
}

// load says how busy the machine is: figures of a machine that others use are not those of an idle one.
func (s *session) load(area, when string) {
	text, _ := os.ReadFile("/proc/loadavg") // empty where there is none
	fmt.Fprintf(s.Out, "bench # %s: load %s %s, %d CPUs\n", area, loadAverage(string(text)), when, runtime.NumCPU())
}

// loadAverage is that of the last minute, from the text of /proc/loadavg.
func loadAverage(text string) string {
	first, _, _ := strings.Cut(text, " ")
	if first == "" {
		return "unknown"
	}
	return first
}

// note says what is being done; figures go to Out and only they.
func (s *session) note(format string, args ...any) {
	fmt.Fprintf(s.Progress, "bench: "+format+"\n", args...)
}

// folder makes an empty one for an area; it is gone when the area is done.
func (s *session) folder(name string) (string, error) {
	dir := filepath.Join(s.Dir, name)
	if err := os.RemoveAll(dir); err != nil {
		return "", err
	}
	s.folders = append(s.folders, dir)
	return dir, os.MkdirAll(dir, 0o755)
}

// build makes the image of a flavour once a run. It is not build/image/FLAVOUR, which others may use meanwhile.
func (s *session) build(ctx context.Context, flavour string) (builder.Manifest, error) {
	if m, ok := s.built[flavour]; ok {
		return m, nil
	}
	s.note("build the %s image", flavour)
	m, err := builder.Options{Flavour: flavour, Source: s.source, Out: s.imageDir(flavour)}.Build(ctx)
	if err != nil {
		return m, fmt.Errorf("build %s: %w", flavour, err)
	}
	s.built[flavour] = m
	return m, nil
}

func (s *session) imageDir(flavour string) string { return filepath.Join(s.Dir, "image", flavour) }
