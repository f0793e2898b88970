package tree

import (
	"maps"
	"path"
	"slices"
	"strings"
)

// Kind of a node.
type Kind int

// Kinds of nodes.
const (
	Dir Kind = iota
	Link
	Attr
)

// Rule says when an attribute is written.
type Rule int

const (
	// Always means whenever its value differs.
	Always Rule = iota
	// OnMake means when its directory was just made; it cannot be read, or reads as something else.
	OnMake
	// Fixed is as Always, but only a new directory takes another value.
	Fixed
)

// Node is one thing in configfs. Paths are relative to its root.
type Node struct {
	Kind  Kind
	Path  string
	Value string // of an attribute, or what a link points to
	Rule  Rule
	// Group is what is made anew together; "" is shared by groups.
	Group string
	// Secret values are not shown.
	Secret bool
}

// Snapshot is what is there.
type Snapshot struct {
	Dirs  map[string]bool   // those that a user of configfs makes, not those that come with them
	Links map[string]string // path → path it points to, relative to the root
	Attrs map[string]string // values of attributes that were asked for, as read
}

// Op is one step.
type Op struct {
	Do     Verb
	Path   string
	Value  string
	Secret bool
	// Group is whose concern it is alone, "" what others may depend on.
	Group string
	// port is the group that a link to another group's directory lies in.
	port string
}

// Verb of an Op.
type Verb int

// The verbs.
const (
	Mkdir Verb = iota
	Rmdir
	Symlink
	Unlink
	Write
)

func (o Op) String() string {
	value := o.Value
	if o.Secret {
		value = "(secret)"
	}
	switch o.Do {
	case Mkdir:
		return "mkdir " + o.Path
	case Rmdir:
		return "rmdir " + o.Path
	case Symlink:
		return "link " + o.Path + " to " + value
	case Unlink:
		return "unlink " + o.Path
	default:
		return "write " + o.Path + " " + value
	}
}

// Plan lists the steps from what is there to what is wanted.
func Plan(want []Node, have Snapshot) []Op {
	group := make(map[string]string, len(want)) // of each directory
	for _, n := range want {
		if n.Kind == Dir {
			group[n.Path] = n.Group
		}
	}
	again := rebuilt(want, have)
	for _, p := range expelled(want, have) {
		if g := group[p]; g != "" {
			again[g] = true
		}
	}
	// A link to something that is made anew is made anew as well: it would be in the way.
	fresh := func(n Node) bool { return again[n.Group] || n.Kind == Link && again[group[n.Value]] }
	keep := make(map[string]Node, len(want))
	for _, n := range want {
		if !fresh(n) {
			keep[n.Path] = n
		}
	}
	ops := removals(keep, have)
	made := make(map[string]bool)
	for _, n := range want {
		switch n.Kind {
		case Dir:
			if fresh(n) || !have.Dirs[n.Path] {
				ops = append(ops, Op{Do: Mkdir, Path: n.Path, Group: n.Group})
				made[n.Path] = true
			}
		case Link:
			if at, there := have.Links[n.Path]; fresh(n) || !there || at != n.Value {
				op := Op{Do: Symlink, Path: n.Path, Value: n.Value, Group: n.Group}
				if of := group[n.Value]; of != "" && of != n.Group { // a port lets clients in to a subsystem
					op.Group, op.port = of, n.Group
				}
				ops = append(ops, op)
			}
		case Attr:
			under := within(made, n.Path)
			if under || n.Rule != OnMake && !equal(have.Attrs[n.Path], n.Value) {
				ops = append(ops, Op{Do: Write, Path: n.Path, Value: n.Value, Secret: n.Secret, Group: n.Group})
			}
		}
	}
	return ops
}

// rebuilt are the groups with a fixed attribute that differs.
func rebuilt(want []Node, have Snapshot) map[string]bool {
	again := map[string]bool{}
	for _, n := range want {
		if n.Kind != Attr || n.Rule != Fixed || n.Group == "" {
			continue
		}
		// An attribute of a directory that is not there yet has no value to differ.
		if value, read := have.Attrs[n.Path]; read && !equal(value, n.Value) {
			again[n.Group] = true
		}
	}
	return again
}

// expelled are the subsystems that a host may not use any more. The kernel would let it go on until it disconnects; an
// iSCSI initiator's session ends with its ACL.
func expelled(want []Node, have Snapshot) (subsystems []string) {
	for link := range have.Links {
		ok, _ := path.Match("nvmet/subsystems/*/allowed_hosts/*", link)
		if ok && !slices.ContainsFunc(want, func(n Node) bool { return n.Path == link }) {
			subsystems = append(subsystems, path.Dir(path.Dir(link)))
		}
	}
	return subsystems
}

// removals takes away what is there and not wanted, in the order that the kernel asks for.
func removals(keep map[string]Node, have Snapshot) []Op {
	var disable, unlink, rmdir []Op
	for _, p := range deepestFirst(have.Links) {
		if n, ok := keep[p]; !ok || n.Kind != Link || n.Value != have.Links[p] {
			unlink = append(unlink, Op{Do: Unlink, Path: p})
		}
	}
	for _, p := range deepestFirst(have.Dirs) {
		if n, ok := keep[p]; ok && n.Kind == Dir {
			continue
		}
		if enabled(p) {
			disable = append(disable, Op{Do: Write, Path: path.Join(p, "enable"), Value: "0"})
		}
		rmdir = append(rmdir, Op{Do: Rmdir, Path: p})
	}
	return slices.Concat(disable, unlink, rmdir)
}

// enabled says whether the directory is of a kind that must be disabled before it is taken apart.
func enabled(dir string) bool {
	ok := func(pattern string) bool { m, _ := path.Match(pattern, dir); return m }
	return ok("target/iscsi/*/tpgt_*") || ok("nvmet/subsystems/*/namespaces/*")
}

func deepestFirst[V any](m map[string]V) []string {
	depth := func(p string) int { return strings.Count(p, "/") }
	return slices.SortedFunc(maps.Keys(m), func(a, b string) int {
		if d := depth(b) - depth(a); d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
}

// within says whether a path lies in a directory that was just made.
func within(made map[string]bool, p string) bool {
	for ; p != "." && p != "/"; p = path.Dir(p) {
		if made[p] {
			return true
		}
	}
	return false
}

// equal compares an attribute as the kernel shows it with the value that was written. Some are shown behind a label.
func equal(shown, value string) bool {
	shown = strings.TrimSpace(shown)
	if _, after, labelled := strings.Cut(shown, ": "); labelled {
		shown = strings.TrimSpace(after)
	}
	return shown == value
}

// Attributes are the paths whose values Plan needs in its snapshot.
func Attributes(want []Node) []string {
	var out []string
	for _, n := range want {
		if n.Kind == Attr && n.Rule != OnMake {
			out = append(out, n.Path)
		}
	}
	return out
}
