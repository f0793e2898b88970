package tree

import (
	"path"
	"slices"
)

// What users make in configfs, by pattern. All other directories come with these and go with them.
var (
	madeDirs = []string{
		"target/core/iblock_*", "target/core/iblock_*/*",
		"target/iscsi", "target/iscsi/iqn.*", "target/iscsi/eui.*", "target/iscsi/naa.*", "target/iscsi/*/tpgt_*", "target/iscsi/*/tpgt_*/lun/lun_*", "target/iscsi/*/tpgt_*/np/*",
		"target/iscsi/*/tpgt_*/acls/*", "target/iscsi/*/tpgt_*/acls/*/lun_*",
		"nvmet/hosts/*", "nvmet/subsystems/*", "nvmet/subsystems/*/namespaces/*", "nvmet/ports/*",
	}
	madeLinks = []string{
		"target/iscsi/*/tpgt_*/lun/lun_*/*", "target/iscsi/*/tpgt_*/acls/*/lun_*/*",
		"nvmet/subsystems/*/allowed_hosts/*", "nvmet/ports/*/subsystems/*",
	}
	// Directories on the way to made things, which come with others.
	passage = []string{
		"target", "target/core", "target/iscsi/*/tpgt_*/lun", "target/iscsi/*/tpgt_*/np", "target/iscsi/*/tpgt_*/acls",
		"nvmet", "nvmet/hosts", "nvmet/subsystems", "nvmet/subsystems/*/namespaces", "nvmet/subsystems/*/allowed_hosts",
		"nvmet/ports", "nvmet/ports/*/subsystems",
	}
)

// Made says whether a directory is one that users make.
func Made(dir string) bool { return matches(madeDirs, dir) }

// MadeLink says whether a link is one that users make.
func MadeLink(link string) bool { return matches(madeLinks, link) }

// Enter says whether made things can lie below a directory.
func Enter(dir string) bool { return Made(dir) || matches(passage, dir) }

func matches(patterns []string, p string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool { ok, _ := path.Match(pattern, p); return ok })
}
