package guestagent

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"embed"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
)

//go:embed files
var files embed.FS

// file is one of a package; its folders are added before it.
type file struct {
	path string
	mode int64
	data []byte // nil is a folder
}

// pack makes the .deb of a program.
func pack(program []byte, version string, epoch time.Time) ([]byte, error) {
	text := func(name string) []byte {
		b, _ := files.ReadFile("files/" + name) // embedded: it is there
		return b
	}
	data := []file{
		{"etc/ratchet-guest-agent/hooks", 0o755, nil},
		{"lib/systemd/system/ratchet-guest-agent.service", 0o644, text("ratchet-guest-agent.service")},
		{"usr/sbin/ratchet-guest-agent", 0o755, program},
		{"usr/share/doc/ratchet-guest-agent/copyright", 0o644, text("copyright")},
	}
	size := 0
	for _, f := range data {
		size += len(f.data)
	}
	control := strings.NewReplacer("{{version}}", debianVersion(version), "{{size}}", fmt.Sprint((size+1023)/1024)).Replace(string(text("control")))
	meta := []file{{"control", 0o644, []byte(control)}, {"postinst", 0o755, text("postinst")}, {"prerm", 0o755, text("prerm")}}
	metaTar, err := tarball(meta, epoch)
	if err != nil {
		return nil, err
	}
	dataTar, err := tarball(data, epoch)
	if err != nil {
		return nil, err
	}
	out := bytes.NewBufferString("!<arch>\n")
	for _, member := range []struct {
		name string
		data []byte
	}{{"debian-binary", []byte("2.0\n")}, {"control.tar.gz", metaTar}, {"data.tar.gz", dataTar}} {
		fmt.Fprintf(out, "%-16s%-12d%-6d%-6d%-8o%-10d`\n", member.name, epoch.Unix(), 0, 0, 0o100644, len(member.data))
		out.Write(member.data)
		if len(member.data)%2 == 1 {
			out.WriteByte('\n')
		}
	}
	return out.Bytes(), nil
}

// tarball packs files in order of path, each folder once and before what is in it.
func tarball(list []file, epoch time.Time) ([]byte, error) {
	all := map[string]file{".": {mode: 0o755}}
	for _, f := range list {
		all[f.path] = f
		for dir := path.Dir(f.path); dir != "."; dir = path.Dir(dir) {
			all[dir] = file{mode: 0o755}
		}
	}
	names := make([]string, 0, len(all))
	for name := range all {
		names = append(names, name)
	}
	slices.Sort(names)
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	w := tar.NewWriter(z)
	for _, name := range names {
		f := all[name]
		h := &tar.Header{Format: tar.FormatUSTAR, Name: "./" + name, Mode: f.mode, ModTime: epoch, Typeflag: tar.TypeReg, Size: int64(len(f.data)), Uname: "root", Gname: "root"}
		if f.data == nil {
			h.Typeflag, h.Name = tar.TypeDir, path.Join(".", name)+"/"
			if name != "." {
				h.Name = "./" + h.Name
			}
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.data); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// debianVersion turns what git describe says into a version that dpkg orders as git does: candidates before a release,
// commits after it, and a tree without tags before everything.
func debianVersion(v string) string {
	base, rest, more := strings.Cut(strings.TrimPrefix(v, "v"), "-")
	if !strings.Contains(base, ".") || strings.Trim(base, "0123456789.") != "" {
		return "0~" + strings.ReplaceAll(v, "-", ".")
	}
	if !more {
		return base
	}
	sign := "~" // v1.2.3-rc.1
	if rest[0] >= '0' && rest[0] <= '9' || rest == "dirty" {
		sign = "+" // v1.2.3-4-gabcdef
	}
	return base + sign + strings.ReplaceAll(rest, "-", ".")
}
