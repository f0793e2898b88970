package domxml

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Bounds of a document.
const (
	maxDepth = 64
	maxNodes = 100_000
)

// Node is an element, or text if it has no Name. Names keep their prefix: what is printed is what was read.
type Node struct {
	Name     string
	Attrs    []Attr
	Children []*Node
	Text     string
}

// Attr is an attribute of an element.
type Attr struct{ Name, Value string }

var errForm = errors.New("not well-formed XML")

// Parse reads a document. Comments and processing instructions are left out.
func Parse(s string) (*Node, error) {
	d := xml.NewDecoder(strings.NewReader(s))
	root := &Node{}
	stack := []*Node{root}
	for n := 0; ; n++ {
		// RawToken does not resolve prefixes, which would have to be guessed again for printing.
		token, err := d.RawToken()
		if errors.Is(err, io.EOF) {
			break
		}
		top := stack[len(stack)-1]
		switch t := token.(type) {
		case xml.StartElement:
			child := &Node{Name: rawName(t.Name)}
			for _, a := range t.Attr {
				child.Attrs = append(child.Attrs, Attr{rawName(a.Name), a.Value})
			}
			top.Children = append(top.Children, child)
			stack = append(stack, child)
		case xml.EndElement:
			if top.Name != rawName(t.Name) || len(stack) == 1 {
				return nil, fmt.Errorf("parse XML: </%s> closes <%s>: %w", rawName(t.Name), top.Name, errForm)
			}
			stack = stack[:len(stack)-1]
		case xml.CharData:
			if len(stack) > 1 {
				top.Children = append(top.Children, &Node{Text: string(t)})
			}
		}
		if err != nil || len(stack) > maxDepth || n > maxNodes {
			return nil, fmt.Errorf("parse XML: %w", errors.Join(err, errForm))
		}
	}
	if len(stack) != 1 || len(root.Children) != 1 {
		return nil, fmt.Errorf("parse XML: %w", errForm)
	}
	return root.Children[0], nil
}

func rawName(n xml.Name) string {
	if n.Space == "" {
		return n.Local
	}
	return n.Space + ":" + n.Local
}

// New makes an element with attributes given as name, value, name, value…; those without a value are left out.
func New(name string, attrs ...string) *Node {
	n := &Node{Name: name}
	for i := 0; i+1 < len(attrs); i += 2 {
		if attrs[i+1] != "" {
			n.Attrs = append(n.Attrs, Attr{attrs[i], attrs[i+1]})
		}
	}
	return n
}

// With adds children, of which nil ones are left out, and returns n.
func (n *Node) With(children ...*Node) *Node {
	for _, c := range children {
		if c != nil {
			n.Children = append(n.Children, c)
		}
	}
	return n
}

// Say replaces the content by text and returns n.
func (n *Node) Say(text string) *Node {
	n.Children = []*Node{{Text: text}}
	return n
}

// Get is the first element on the way down names; nil if there is none.
func (n *Node) Get(names ...string) *Node {
	for _, name := range names {
		all := n.All(name)
		if len(all) == 0 {
			return nil
		}
		n = all[0]
	}
	return n
}

// All are the children called name. It works on nil.
func (n *Node) All(name string) (list []*Node) {
	if n == nil {
		return nil
	}
	for _, c := range n.Children {
		if c.Name == name {
			list = append(list, c)
		}
	}
	return list
}

// Elements are the children that are elements. It works on nil.
func (n *Node) Elements() (list []*Node) {
	if n == nil {
		return nil
	}
	for _, c := range n.Children {
		if c.Name != "" {
			list = append(list, c)
		}
	}
	return list
}

// Attr is an attribute's value, "" if it is not there. It works on nil.
func (n *Node) Attr(name string) string {
	if n == nil {
		return ""
	}
	for _, a := range n.Attrs {
		if a.Name == name {
			return a.Value
		}
	}
	return ""
}

// Set sets an attribute.
func (n *Node) Set(name, value string) {
	for i, a := range n.Attrs {
		if a.Name == name {
			n.Attrs[i].Value = value
			return
		}
	}
	n.Attrs = append(n.Attrs, Attr{name, value})
}

// Content is the text inside. It works on nil.
func (n *Node) Content() string {
	if n == nil {
		return ""
	}
	var b strings.Builder
	for _, c := range n.Children {
		b.WriteString(c.Text)
	}
	return strings.TrimSpace(b.String())
}

// Replace puts with in the place of the child old, or at the end if old is nil.
func (n *Node) Replace(old, with *Node) {
	if i := slices.Index(n.Children, old); i >= 0 {
		n.Children[i] = with
		return
	}
	n.Children = append(n.Children, with)
}

// String prints the element.
func (n *Node) String() string {
	var b strings.Builder
	n.print(&b)
	return b.String()
}

func (n *Node) print(b *strings.Builder) {
	if n.Name == "" {
		escape(b, n.Text)
		return
	}
	b.WriteByte('<')
	b.WriteString(n.Name)
	for _, a := range n.Attrs {
		b.WriteString(" " + a.Name + `="`)
		escape(b, a.Value)
		b.WriteByte('"')
	}
	if len(n.Children) == 0 {
		b.WriteString("/>")
		return
	}
	b.WriteByte('>')
	for _, c := range n.Children {
		c.print(b)
	}
	b.WriteString("</" + n.Name + ">")
}

func escape(b *strings.Builder, s string) {
	_ = xml.EscapeText(b, []byte(s)) // a Builder does not fail
}
