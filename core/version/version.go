// Package version says what this binary is. The build sets Version with
//
//	-ldflags "-X github.com/ratchetos/ratchet/core/version.Version=0.4.1"
//
// and Commit likewise; a plain go build gets the commit from the module's build information.
package version

import (
	"runtime"
	"runtime/debug"
)

var (
	// Version is the release, "dev" for a build that set none.
	Version = "dev"
	// Commit is the source revision, "" when unknown.
	Commit = ""
)

// Info is everything known about the binary.
type Info struct {
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"`
	Go      string `json:"go"`
}

// Get reads the build information; it is not done at start-up because few calls need it.
func Get() Info {
	info := Info{Version: Version, Commit: Commit, Go: runtime.Version()}
	if b, ok := debug.ReadBuildInfo(); ok && info.Commit == "" {
		for _, s := range b.Settings {
			if s.Key == "vcs.revision" {
				info.Commit = s.Value
			}
		}
	}
	return info
}
